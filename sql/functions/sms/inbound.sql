-- Inbound texts: which tenants a text concerns, and what follows from it. Start at apply_sms_inbound, which
-- apply_twilio_event (callbacks.sql) calls. Keywords, and what STOP and START change, are in opt-out.sql.

-- STOP and START to a shared number apply to every tenant that texted the person from it; any other text to the tenant
-- that texted last. YES counts as START only for a tenant that waits for the person's consent.
-- START to a shared number is consent to the tenant that texted last. For the other tenants it only lifts the STOP,
-- unless the person had consented to them before: an explicit no to another tenant is not overturned.
--
-- Each tenant's part is a subtransaction: if one tenant has locked its rows, the text is applied to the others, and the
-- event is held (process_webhook_events), so that it is applied again. What was applied before is skipped then. Lock
-- order: the number's lock for one tenant after the other, by tenant id.
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
    return 'MessageSid, From or To is missing or has an invalid length';
  end if;
  -- Twilio's signature has no time, so a request can be replayed after the ledger has forgotten it. The tenants that the
  -- text concerned have it then; without this, a replayed START would lift a later STOP at a tenant that texts the
  -- person only now. (A tenant's own account concerns that tenant only, which has each text once.) An event that was held
  -- is applied again with the time at which it came.
  if p_tenant_id is null
    and exists (select from public.sms_inbound as i where i.message_sid = v_sid and i.received_at < v_at)
  then
    return null;
  end if;
  for v_tenant in
    select t.tenant_id, t.is_the_one from brainops_internal.sms_tenants(v_from, v_to, p_tenant_id) as t order by t.tenant_id
  loop
    if v_tenant.is_the_one or v_kind in ('stop', 'start') then
      v_tenants := v_tenants + 1;
      begin
        perform brainops_internal.lock_sms_number(v_tenant.tenant_id, v_from);
        perform brainops_internal.apply_sms_inbound_for(
          v_tenant.tenant_id, v_sid, v_from, v_to, v_body,
          case
            when v_kind <> 'yes' then v_kind
            -- YES is the answer to a request for consent. Without such a request it answers something else.
            when brainops.consent_state(v_tenant.tenant_id, 'sms', v_from) = 'pending' then 'start'
            else 'reply'
          end,
          v_at, v_opt_out_type, p_event ->> 'NumMedia',
          case
            when p_tenant_id is not null then 'own'
            when exists (select from public.sms_numbers as n where n.tenant_id = v_tenant.tenant_id and n.number = v_to) then v_to
          end,
          -- Decided by the latest consent before this text that did not come by text, so the order in which texts are
          -- applied does not matter.
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
      exception
        when lock_not_available then perform set_config('brainops.event_held', 'true', true);
      end;
    end if;
  end loop;
  return case when v_tenants = 0 then 'no tenant has texted this person from that number, and no tenant is the default' end;
end;
$$;

comment on function brainops_internal.apply_sms_inbound(jsonb, uuid) is
  'Applies an inbound text to the tenants that it concerns. Null, or the reason why it has no effect. p_tenant_id: the tenant whose own account received it; null: the platform''s account received it.';

revoke execute on function brainops_internal.apply_sms_inbound(jsonb, uuid) from public;
grant execute on function brainops_internal.apply_sms_inbound(jsonb, uuid) to brainops_system;

-- Applied once per tenant and MessageSid. The caller holds the number's lock.
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
    return; -- applied before
  end if;
  -- Only a tenant's own text begins a thread of a shared number. Otherwise a text from an unknown person would make the
  -- tenant one of those to which that person's STOP applies.
  if p_sender is not null then
    insert into public.sms_threads as t (tenant_id, number, sender, last_at)
    values (p_tenant_id, p_from, p_sender, p_at)
    on conflict (tenant_id, number, sender) do update
      set last_at = greatest(t.last_at, excluded.last_at);
  end if;

  if p_kind in ('stop', 'start') then
    perform brainops_internal.settle_sms_consent(p_tenant_id, p_from);
    -- START lifts the STOP at every tenant, but is not consent to a tenant that the person may not have meant.
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
    -- With Advanced Opt-Out, Twilio has answered already.
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

comment on function brainops_internal.apply_sms_inbound_for(
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
) is
  'Applies an inbound text to one tenant. p_kind: stop, start, help or reply. p_sender: as sms_threads.sender. p_start_agrees: whether START is consent to this tenant.';

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

-- A text to a tenant's own Twilio account belongs to that tenant. A text to a number in sms_numbers belongs to the
-- tenant of that number. A text to TWILIO_FROM belongs to the tenant that last texted the person from it; if none has,
-- to the default tenant, or to the only tenant. Decided by the number and the account that signed the event, never by
-- the content of the text.
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
    -- The default tenant only if the number has neither an owner nor a thread with the person.
    where r.last_at > '-infinity' or not exists (select from ranked as o where o.last_at > '-infinity');
end;
$$;

comment on function brainops_internal.sms_tenants(text, text, uuid) is
  'The tenants that an inbound text may concern: those that texted the person from that number, and the number''s own. is_the_one: the tenant that a reply belongs to. p_tenant_id: the tenant whose own account received it; null: the platform''s account received it.';

revoke execute on function brainops_internal.sms_tenants(text, text, uuid) from public;
grant execute on function brainops_internal.sms_tenants(text, text, uuid) to brainops_system;

-- Returns all of them, because two leads with one number are one person. If no lead has the number in E.164 (a national
-- number that SQL cannot read), returns the lead that was texted there last.
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

comment on function brainops_internal.sms_leads(uuid, text) is 'The tenant''s leads with the phone number (E.164).';

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

comment on function brainops_internal.record_sms_lead_event(uuid, text, uuid, text, timestamptz, text, jsonb) is
  'Records a lead event of channel sms: for p_lead_id, or if that is null for every lead with the number; once per p_source_key.';

revoke execute
on function brainops_internal.record_sms_lead_event(uuid, text, uuid, text, timestamptz, text, jsonb)
from public;
grant execute
on function brainops_internal.record_sms_lead_event(uuid, text, uuid, text, timestamptz, text, jsonb)
to brainops_system;
