-- START to a number that several tenants text from is said to one of them. It was taken as a yes to all: a person's
-- explicit no to another tenant was overturned. It still takes back a STOP everywhere, and renews a yes that was given
-- to a tenant before. A STOP still stops all.
-- Old workers go on meanwhile: they call brainops.apply_twilio_event alone.
set local lock_timeout = '2s';

drop function brainops.apply_sms_inbound_for(uuid, text, text, text, text, text, timestamptz, text, text, text);

create function brainops.apply_sms_inbound_for(
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
  select l.id into v_lead_id from brainops.sms_leads(p_tenant_id, p_from) as l order by l.updated_at desc, l.id limit 1;
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
    perform brainops.settle_sms_consent(p_tenant_id, p_from);
    -- START takes back STOP everywhere. To whom else it says yes is nobody's guess.
    if p_kind = 'start' and not p_start_agrees then
      return;
    end if;
    perform brainops.record_sms_consent(
      p_tenant_id, p_from, v_lead_id, case p_kind when 'stop' then 'denied' else 'granted' end, p_at,
      jsonb_build_object('message_sid', p_sid, 'text', left(p_body, 200), 'to', p_to)
    );
    perform brainops.record_sms_lead_event(
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
    perform brainops.record_sms_lead_event(
      p_tenant_id, p_from, null, 'sms_replied', p_at, p_sid,
      jsonb_build_object('inbound_id', v_inbound_id, 'text', left(p_body, 1600))
    );
  end if;
end;
$$;

create or replace function brainops.apply_sms_inbound(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_sid text := coalesce(p_event ->> 'MessageSid', p_event ->> 'SmsSid');
  v_from text := p_event ->> 'From';
  v_to text := p_event ->> 'To';
  v_body text := coalesce(p_event ->> 'Body', '');
  v_at timestamptz := brainops.webhook_time(p_event);
  v_kind text := brainops.sms_keyword(v_body, p_event ->> 'OptOutType');
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
    select t.tenant_id, t.is_the_one from brainops.sms_tenants(v_from, v_to, p_tenant_id) as t order by t.tenant_id
  loop
    if v_tenant.is_the_one or v_kind in ('stop', 'start') then
      v_tenants := v_tenants + 1;
      perform brainops.lock_sms_number(v_tenant.tenant_id, v_from);
      perform brainops.apply_sms_inbound_for(
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

revoke execute
on function brainops.apply_sms_inbound_for(uuid, text, text, text, text, text, timestamptz, text, text, text, boolean)
from public;
grant execute
on function brainops.apply_sms_inbound_for(uuid, text, text, text, text, text, timestamptz, text, text, text, boolean)
to brainops_system;
