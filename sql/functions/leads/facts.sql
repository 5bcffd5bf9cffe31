-- Facts: the properties of a lead's own row that count for its score. score_leads (score.sql) calls lead_facts; the
-- points are in brainops.score_reasons.

create or replace function brainops_internal.lead_facts(p_lead public.revenue_leads)
returns table (reason text, times int)
language sql
stable
set search_path = ''
as $$
  select f.reason, f.times
  from
    (
      select
        -- Custom fields are in metadata.custom_fields, or directly in metadata.
        p_lead.metadata || coalesce(
          case
            when jsonb_typeof(p_lead.metadata -> 'custom_fields') = 'object' then p_lead.metadata -> 'custom_fields'
          end,
          '{}'
        ) as given,
        split_part(p_lead.email_key, '@', 2) as domain
    ) as m
    cross join lateral (
      select
        lower(btrim(m.given ->> 'budget')) as budget,
        case
          when btrim(m.given ->> 'budget') ~ '^[$€£]?\s*[0-9][0-9,]{0,14}(\.[0-9]{1,6})?$' then regexp_replace(
            m.given ->> 'budget',
            '[^0-9.]',
            '',
            'g'
          )::numeric
        end as amount,
        regexp_replace(lower(btrim(m.given ->> 'timeline')), '[\s-]+', '_', 'g') as timeline
    ) as b
    cross join lateral (
      values
        ('captured', 1),
        ('email_given', (p_lead.email_key is not null)::int),
        ('business_domain', (p_lead.email_key is not null and not brainops_internal.is_free_mail(m.domain))::int),
        ('phone_given', (coalesce(btrim(p_lead.phone), '') <> '')::int),
        ('company_given', (coalesce(btrim(p_lead.company_name), '') <> '')::int),
        (
          'custom_fields',
          (
            select least(count(*), 5)::int
            from jsonb_each_text(m.given) as k
            where
              btrim(k.value) <> ''
              and k.key <> all (
                '{custom_fields,merged,lead_id,source,type,campaign,is_test,is_demo,import,budget,timeline,decision_maker,property_owner,budget_approved}'::text[]
              )
          )
        ),
        ('budget_high', (b.budget = 'high' or b.amount > 10000)::int),
        ('budget_medium', (b.budget = 'medium' or b.amount > 5000 and b.amount <= 10000)::int),
        ('decision_maker', brainops_internal.is_yes(m.given ->> 'decision_maker')::int),
        (
          'timeline_now',
          (b.timeline in ('immediate', 'immediately', 'urgent', 'now', 'today', 'asap', 'this_week'))::int
        ),
        ('timeline_month', (b.timeline in ('this_month', 'month'))::int),
        ('property_owner', brainops_internal.is_yes(m.given ->> 'property_owner')::int),
        ('budget_approved', brainops_internal.is_yes(m.given ->> 'budget_approved')::int)
    ) as f (reason, times)
  where f.times > 0;
$$;

comment on function brainops_internal.lead_facts(public.revenue_leads) is
  'The facts of a leads row that score: one row for each reason, with how many times it counts (from 1).';

revoke execute on function brainops_internal.lead_facts(public.revenue_leads) from public;
grant execute
on function brainops_internal.lead_facts(public.revenue_leads)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.is_yes(p_word text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select coalesce(lower(btrim(p_word)) in ('true', 't', 'yes', 'y', '1', 'on', 'x', 'ja', 'si', 'oui'), false);
$$;

comment on function brainops_internal.is_yes(text) is
  'Whether a value from a form or a file means yes: true, t, yes, y, 1, on, x, ja, si or oui, in any case. False for null and for anything else.';

revoke execute on function brainops_internal.is_yes(text) from public;
grant execute
on function brainops_internal.is_yes(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Mail providers where anyone can have an address, so the domain is not a company's.
create or replace function brainops_internal.is_free_mail(p_domain text)
returns boolean
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    p_domain ~ '^(gmail|googlemail|icloud|me|mac|aol|aim|msn|proton|protonmail|pm|fastmail|hey|zoho|tutanota|tuta|mail|email|inbox|comcast|verizon|att|sbcglobal|bellsouth|cox|charter|earthlink|qq|163|126|sina|foxmail|rediffmail|naver|hanmail|web|freenet|t-online|arcor|posteo|orange|wanadoo|free|laposte|libero|virgilio|seznam|wp|o2|bk|list|ya|rambler|uol|terra|bigpond|optusnet|btinternet|ntlworld|sky|talktalk|shaw|rogers|telus|sympatico)\.(com|net|org|de|fr|it|cz|pl|ru|co\.uk|uk|ca|me|us|kr|cn|com\.br|com\.au|net\.au)$'
    or p_domain ~ '^(yahoo|ymail|rocketmail|hotmail|outlook|live|gmx|yandex)\.([a-z]{2,3}|com?\.[a-z]{2})$';
$$;

comment on function brainops_internal.is_free_mail(text) is
  'Whether a domain, in lower case, belongs to a public mail provider (gmail.com, yahoo.*, outlook.*, gmx.*, …).';

revoke execute on function brainops_internal.is_free_mail(text) from public;
grant execute
on function brainops_internal.is_free_mail(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
