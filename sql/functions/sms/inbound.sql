create or replace function brainops_internal.apply_sms_inbound(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_sid text := coalesce(p_event ->> 'MessageSid', p_event ->> 'SmsSid');
  v_from text := p_event ->> 'From';
  v_to text := p_event ->> 'To';
  v_body text := coalesce(p_event ->> 'Body', '');
  v_at timestamptz := brainops_internal.webhook_time(p_event);
  v_kind text := brainops_internal.sms_keyword(v_body, p_event ->> 'OptOutType');
  v_opt_out_type text := nullif(p_event ->> 'OptOutType', '');
  v_tenant record;
  v_tenants int := 0;
begin
  if coalesce(length(v_sid), 0) not between 1 and 64 or coalesce(length(v_from), 0) not between 3 and 32
    or coalesce(length(v_to), 0) not between 3 and 64
  then
    return 'it has no usable MessageSid, From and To';
  end if;
  for v_tenant in
    select t.tenant_id, t.is_the_one from brainops_internal.sms_tenants(v_from, v_to, p_tenant_id) as t order by t.tenant_id
  loop
    if v_tenant.is_the_one or v_kind in ('stop', 'start') then
      v_tenants := v_tenants + 1;
      perform brainops_internal.lock_sms_number(v_tenant.tenant_id, v_from);
      perform brainops_internal.apply_sms_inbound_for(
        v_tenant.tenant_id, v_sid, v_from, v_to, v_body,
        case
          when v_kind <> 'yes' then v_kind
          -- Asked for it is a word; out of the blue it is an answer to something else.
          when brainops.consent_state(v_tenant.tenant_id, 'sms', v_from) = 'pending' then 'start'
          else 'reply'
        end,
        v_at, v_opt_out_type, p_event ->> 'NumMedia',
        case
          when p_tenant_id is not null then 'own'
          when exists (select from public.sms_numbers as n where n.tenant_id = v_tenant.tenant_id and n.number = v_to) then v_to
        end,
        -- By what was said elsewhere than by text, and before: so the order in which texts are told does not matter.
        v_tenant.is_the_one or coalesce(
          (
            select c.state = 'granted'
            from public.contact_consents as c
            where c.tenant_id = v_tenant.tenant_id and c.channel = 'sms' and c.address_key = v_from
              and c.source <> 'twilio' and c.occurred_at <= v_at
            order by c.occurred_at desc, c.state = 'denied' desc
            limit 1
          ),
          false
        )
      );
    end if;
  end loop;
  return case when v_tenants = 0 then 'nobody here has texted this person from that number' end;
end;
$$;

revoke execute on function brainops_internal.apply_sms_inbound(jsonb, uuid) from public;
grant execute on function brainops_internal.apply_sms_inbound(jsonb, uuid) to brainops_system;

-- START to a number that several tenants text from is said to one of them. It was taken as a yes to all: a person's
-- explicit no to another tenant was overturned. It still takes back a STOP everywhere, and renews a yes that was given
-- to a tenant before. A STOP still stops all.
create or replace function brainops_internal.apply_sms_inbound_for(
  p_tenant_id uuid,
  p_sid text,
  p_from text,
  p_to text,
  p_body text,
  p_kind text,
  p_at timestamptz,
  p_opt_out_type text,
  p_media text,
  p_sender text,
  p_start_agrees boolean
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_lead_id uuid;
  v_inbound_id uuid;
  v_help text;
begin
  select l.id into v_lead_id from brainops_internal.sms_leads(p_tenant_id, p_from) as l order by l.updated_at desc, l.id limit 1;
  insert into public.sms_inbound (tenant_id, message_sid, from_number, to_number, body, kind, lead_id, received_at, metadata)
  values (
    p_tenant_id, p_sid, p_from, p_to, p_body, p_kind, v_lead_id, p_at,
    jsonb_strip_nulls(jsonb_build_object('opt_out_type', p_opt_out_type, 'media', nullif(p_media, '0')))
  )
  on conflict do nothing
  returning id into v_inbound_id;
  if v_inbound_id is null then
    return; -- told before
  end if;
  -- A thread of a shared number is begun by a tenant's text alone: whoever is written to there by a
  -- stranger would else be one of those whom its STOP means.
  if p_sender is not null then
    insert into public.sms_threads as t (tenant_id, number, sender, last_at)
    values (p_tenant_id, p_from, p_sender, p_at)
    on conflict (tenant_id, number, sender) do update
      set last_at = greatest(t.last_at, excluded.last_at);
  end if;

  if p_kind in ('stop', 'start') then
    perform brainops_internal.settle_sms_consent(p_tenant_id, p_from);
    -- START takes back STOP everywhere. To whom else it says yes is nobody's guess.
    if p_kind = 'start' and not p_start_agrees then
      return;
    end if;
    perform brainops_internal.record_sms_consent(
      p_tenant_id, p_from, v_lead_id, case p_kind when 'stop' then 'denied' else 'granted' end, p_at,
      jsonb_build_object('message_sid', p_sid, 'text', left(p_body, 200), 'to', p_to)
    );
    perform brainops_internal.record_sms_lead_event(
      p_tenant_id, p_from, null, case p_kind when 'stop' then 'opted_out' else 'opted_in' end, p_at, p_sid,
      jsonb_build_object('inbound_id', v_inbound_id)
    );
  elsif p_kind = 'help' then
    -- Twilio has answered already where Advanced Opt-Out is on.
    if p_opt_out_type is null and p_from ~ '^\+[1-9][0-9]{6,14}$' then
      select
        coalesce(
          nullif(btrim(t.settings ->> 'sms_help_reply'), ''),
          '{{ tenant.name }}: you get text messages from us at this number. Reply STOP to opt out.'
        )
        into v_help
        from public.tenants as t
        where t.id = p_tenant_id;
      insert into public.ai_sms_queue (tenant_id, recipient, body, metadata, lead_id, idempotency_key)
      values (
        p_tenant_id, p_from, v_help, jsonb_build_object('transactional', true, 'priority', 'high', 'in_reply_to', p_sid),
        v_lead_id, 'twilio:help:' || p_sid
      )
      on conflict do nothing;
    end if;
  else
    perform brainops_internal.record_sms_lead_event(
      p_tenant_id, p_from, null, 'sms_replied', p_at, p_sid,
      jsonb_build_object('inbound_id', v_inbound_id, 'text', left(p_body, 1600))
    );
  end if;
end;
$$;

revoke execute
on function brainops_internal.apply_sms_inbound_for(
  uuid,
  text,
  text,
  text,
  text,
  text,
  timestamptz,
  text,
  text,
  text,
  boolean
)
from public;
grant execute
on function brainops_internal.apply_sms_inbound_for(
  uuid,
  text,
  text,
  text,
  text,
  text,
  timestamptz,
  text,
  text,
  text,
  boolean
)
to brainops_system;

-- By the whole text, never by a word in it: "don't stop" is a reply. Case and a full stop or
-- exclamation mark at the end do not count. Twilio's own reading (Advanced Opt-Out) comes first.
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
      when w.word in (
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
      ) then 'stop'
      when w.word in ('START', 'UNSTOP') then 'start'
      when w.word = 'YES' then 'yes'
      when w.word in ('HELP', 'INFO') then 'help'
      else 'reply'
    end
  from
    (
      select
        upper(
          regexp_replace(
            regexp_replace(p_body, '^[[:space:]"''“”‘’.]+|[[:space:]"''“”‘’.!?,;]+$', '', 'g'),
            '[[:space:]]+',
            ' ',
            'g'
          )
        ) as word
    ) as w;
$$;

comment on function brainops_internal.sms_keyword(text, text) is
  'stop, start, help, yes (which opts in only whom it was asked of) or reply.';

revoke execute on function brainops_internal.sms_keyword(text, text) from public;
grant execute on function brainops_internal.sms_keyword(text, text) to brainops_system;

-- Whose a text to this number is: the tenant that has the number; for TWILIO_FROM, whoever texted
-- the person last from it; else the tenant that takes what is nobody's.
create or replace function brainops_internal.sms_tenants(p_from text, p_to text, p_tenant_id uuid)
returns table (tenant_id uuid, is_the_one boolean)
language plpgsql
stable
set search_path = ''
as $$
declare
  v_owner uuid;
begin
  if p_tenant_id is not null then
    return query select p_tenant_id, true;
    return;
  end if;
  select n.tenant_id into v_owner from public.sms_numbers as n where n.number = p_to limit 1;
  return query
    with candidates as (
      select t.tenant_id, t.last_at, t.tenant_id = v_owner as owns
      from public.sms_threads as t
      where t.number = p_from and t.sender is not distinct from case when v_owner is not null then p_to end
      union all
      select v_owner, 'infinity', true where v_owner is not null
      union all
      select id, '-infinity', false from public.tenants
      where is_default or (select count(*) from public.tenants) = 1
    ),
    ranked as (
      select c.tenant_id, max(c.last_at) as last_at, bool_or(c.owns) as owns from candidates as c group by c.tenant_id
    )
    select r.tenant_id, row_number() over (order by r.owns desc, r.last_at desc, r.tenant_id) = 1
    from ranked as r
    -- Nobody's default where somebody's thread is.
    where r.last_at > '-infinity' or not exists (select from ranked as o where o.last_at > '-infinity');
end;
$$;

comment on function brainops_internal.sms_tenants(text, text, uuid) is
  'The tenants that texted a person from a number; is_the_one: whose a reply is. Of a number that is one tenant''s, that one. By the number and the account that signed, never by the text.';

revoke execute on function brainops_internal.sms_tenants(text, text, uuid) from public;
grant execute on function brainops_internal.sms_tenants(text, text, uuid) to brainops_system;

-- Leads by number, all of them: two leads with one number are one person to whoever answers. Where no
-- lead has it (a national number that SQL can't read), the one that was last texted there.
create or replace function brainops_internal.sms_leads(p_tenant_id uuid, p_number text)
returns table (id uuid, updated_at timestamptz)
language plpgsql
stable
set search_path = ''
as $$
begin
  return query
    select l.id, l.updated_at from public.revenue_leads as l where l.tenant_id = p_tenant_id and l.phone_e164 = p_number;
  if not found then
    return query
      select l.id, l.updated_at
      from public.ai_sms_queue as q
      inner join public.revenue_leads as l on l.tenant_id = q.tenant_id and l.id = q.lead_id
      where q.tenant_id = p_tenant_id and q.to_number = p_number
      order by q.started_at desc
      limit 1;
  end if;
end;
$$;

revoke execute on function brainops_internal.sms_leads(uuid, text) from public;
grant execute on function brainops_internal.sms_leads(uuid, text) to brainops_system;

create or replace function brainops_internal.record_sms_lead_event(
  p_tenant_id uuid,
  p_number text,
  p_lead_id uuid,
  p_event text,
  p_at timestamptz,
  p_source_key text,
  p_metadata jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform brainops_internal.record_lead_event(p_tenant_id, l.id, p_event, 'sms', p_at, p_source_key, p_metadata)
  from brainops_internal.sms_leads(p_tenant_id, p_number) as l
  where p_lead_id is null
  union all
  select brainops_internal.record_lead_event(p_tenant_id, l.id, p_event, 'sms', p_at, p_source_key, p_metadata)
  from public.revenue_leads as l
  where l.tenant_id = p_tenant_id and l.id = p_lead_id;
end;
$$;

revoke execute
on function brainops_internal.record_sms_lead_event(uuid, text, uuid, text, timestamptz, text, jsonb)
from public;
grant execute
on function brainops_internal.record_sms_lead_event(uuid, text, uuid, text, timestamptz, text, jsonb)
to brainops_system;

create or replace function brainops_internal.record_sms_consent(
  p_tenant_id uuid,
  p_number text,
  p_lead_id uuid,
  p_state text,
  p_at timestamptz,
  p_evidence jsonb
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into public.contact_consents (tenant_id, lead_id, channel, address, state, source, evidence, occurred_at)
  values (p_tenant_id, p_lead_id, 'sms', p_number, p_state, 'twilio', p_evidence, p_at);
end;
$$;

revoke execute on function brainops_internal.record_sms_consent(uuid, text, uuid, text, timestamptz, jsonb) from public;
grant execute
on function brainops_internal.record_sms_consent(uuid, text, uuid, text, timestamptz, jsonb)
to brainops_system;

-- What a person told us, or Twilio on its behalf: by the time of each word, and at the same instant
-- the one that stops. START takes back this, and no other suppression.
create or replace function brainops_internal.settle_sms_consent(p_tenant_id uuid, p_number text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_stops boolean;
begin
  select w.stops into v_stops
    from (
      select received_at as at, kind = 'stop' as stops
      from public.sms_inbound
      where tenant_id = p_tenant_id and from_number = p_number and kind in ('stop', 'start')
      union all
      select occurred_at, true
      from public.sms_deliveries
      where tenant_id = p_tenant_id and recipient = p_number and brainops_internal.sms_error_class(error_code) = 'opted_out'
    ) as w
    order by w.at desc, w.stops desc
    limit 1;
  if v_stops then
    perform brainops_internal.suppress(p_tenant_id, 'sms', p_number, 'unsubscribed', 'twilio');
  else
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'sms' and address_key = p_number
      and reason = 'unsubscribed' and source = 'twilio';
    -- Which may have stood over this one.
    perform brainops_internal.settle_unreachable(p_tenant_id, p_number);
  end if;
end;
$$;

revoke execute on function brainops_internal.settle_sms_consent(uuid, text) from public;
grant execute on function brainops_internal.settle_sms_consent(uuid, text) to brainops_system;

-- Two words about one person, in two hands: the second sees what the first has written.
create or replace function brainops_internal.lock_sms_number(p_tenant_id uuid, p_number text)
returns void
language sql
set search_path = ''
as $$
  select pg_advisory_xact_lock(hashtextextended('sms ' || p_tenant_id || p_number, 0));
$$;

revoke execute on function brainops_internal.lock_sms_number(uuid, text) from public;
grant execute on function brainops_internal.lock_sms_number(uuid, text) to brainops_system;
