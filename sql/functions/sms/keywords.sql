-- What an inbound text asks for: STOP, START, HELP and YES, in the forms that people type. Start at sms_keyword.
--
-- A person may withdraw consent in any way that is clear (47 CFR 64.1200(a)(10)), so STOP is read more freely than the
-- other keywords: in several languages, with courtesies, and in the usual sentences. CANCEL, END and QUIT count only by
-- themselves, as at Twilio, because "please cancel" may be about an appointment.

create or replace function brainops_internal.sms_first_line(p_body text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    coalesce(
      (
        select line
        from
          (
            select
              n,
              -- Compatibility forms: full-width letters are letters, accents are separate characters, which go.
              pg_catalog.upper(
                pg_catalog.btrim(
                  pg_catalog.regexp_replace(
                    pg_catalog.regexp_replace(
                      pg_catalog.normalize(part, 'NFKD'),
                      -- Combining marks, and characters without a width.
                      '[\u00AD\u0300-\u036F\u061C\u180B-\u180E\u200B-\u200F\u202A-\u202E\u2060-\u206F\uFE00-\uFE0F\uFEFF]',
                      '',
                      'g'
                    ),
                    -- Spaces, punctuation, symbols and emoji, except the apostrophe and the hyphen inside words.
                    '[\s!-&(-,./:-@[-`{-\u00BF\u2000-\u2018\u201A-\u2BFF\u3000-\u303F\U0001F000-\U0001FAFF]+',
                    ' ',
                    'g'
                  ),
                  ' ''’-'
                )
              ) as line
            from
              pg_catalog.regexp_split_to_table(
                pg_catalog.left(p_body, 500),
                '[\n\r\v\f\u0085\u2028\u2029]+'
              ) with ordinality as p (part, n)
          ) as l
        where line <> ''
        order by n
        limit 1
      ),
      ''
    );
$$;

comment on function brainops_internal.sms_first_line(text) is
  'The first line of a text that has letters, in upper case, without accents, invisible characters, punctuation and emoji, words separated by one space; empty if there is none. A signature below it is left out. Reads at most 500 characters.';

revoke execute on function brainops_internal.sms_first_line(text) from public;
grant execute on function brainops_internal.sms_first_line(text) to brainops_system;

-- Twilio's own reading (Advanced Opt-Out) takes precedence.
create or replace function brainops_internal.sms_keyword(p_body text, p_opt_out_type text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when upper(p_opt_out_type) in ('STOP', 'START', 'HELP') then lower(p_opt_out_type)
      -- Twilio's keywords, and those of other languages.
      when l.line in (
        'STOP',
        'STOPALL',
        'STOP ALL',
        'UNSUBSCRIBE',
        'CANCEL',
        'END',
        'QUIT',
        'REVOKE',
        'OPTOUT',
        'OPT OUT',
        'OPT-OUT'
      )
      or l.line in ('ARRET', 'ARRETER', 'ARRETEZ', 'DESABONNER', 'DESINSCRIRE', 'STOPPER')
      or l.line in ('ALTO', 'PARAR', 'PARE', 'BAJA', 'CANCELAR', 'DETENER', 'DETENGA', 'DESUSCRIBIR', 'SAIR')
      or l.line in (
        'STOPP',
        'STOPPEN',
        'ABMELDEN',
        'ABBESTELLEN',
        'AUFHOREN',
        'AFMELDEN',
        'UITSCHRIJVEN',
        'AVSLUTA',
        'AVBRYT',
        'FRAMELD',
        'AFMELD'
      )
      or l.line in (
        'FERMA',
        'FERMARE',
        'CANCELLAMI',
        'DISISCRIVI',
        'DISISCRIVIMI',
        'СТОП',
        'Стоп',
        'стоп',
        'הסר',
        '停止',
        '退订',
        '退訂'
      ) then 'stop'
      when regexp_replace(
        l.line,
        '^(PLEASE|PLS|PLZ|OK|OKAY|NO|HI|HELLO) | (PLEASE|PLS|PLZ|NOW|ALREADY|THANKS|THANK YOU|THX|TY)$',
        '',
        'g'
      ) ~ '^((PLEASE |PLS |PLZ )?(STOP|STOP ALL|UNSUBSCRIBE|OPT ?-?OUT)( PLEASE| PLS| PLZ)?|STOP (TEXTING|MESSAGING|CONTACTING|SENDING|SPAMMING)( ME)?( THESE| ANY MORE| MORE)?( TEXTS?| MESSAGES?| TXTS?| SMS)?|STOP (THE|THESE|ALL|YOUR|SENDING) (TEXTS?|MESSAGES?|TXTS?|SMS)|UNSUBSCRIBE ME|OPT ME OUT|(TAKE|REMOVE) ME (OFF|FROM) (THE|THIS|YOUR|THAT) (MAILING |TEXT |CONTACT )?LIST|REMOVE ME|STOP (IT|THIS)|(DO NOT|DON[''’]?T) (TEXT|MESSAGE|CONTACT) ME( AGAIN| ANY ?MORE)?|NO MORE (TEXTS?|MESSAGES?|TXTS?|SMS)|LEAVE ME ALONE)$' then 'stop'
      when l.line in ('START', 'UNSTOP') then 'start'
      when l.line = 'YES' then 'yes'
      when l.line in ('HELP', 'INFO') then 'help'
      else 'reply'
    end
  from (select brainops_internal.sms_first_line(p_body) as line) as l;
$$;

comment on function brainops_internal.sms_keyword(text, text) is
  'What an inbound text is: stop, start, help, yes (consent only if it was asked for) or reply. p_opt_out_type: Twilio''s OptOutType; null or empty without Advanced Opt-Out.';

revoke execute on function brainops_internal.sms_keyword(text, text) from public;
grant execute on function brainops_internal.sms_keyword(text, text) to brainops_system;
