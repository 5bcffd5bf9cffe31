-- Opting out and in by text (keywords.sql reads the texts), and Twilio's errors about people who opted out. Start at
-- settle_sms_consent.

-- The latest of the STOPs, STARTs and opt-out errors on record decides; at the same instant, the opt-out. START lifts
-- only the suppression that this function wrote (unsubscribed, source twilio).
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
    perform brainops_internal.lift_persons_stop(p_tenant_id, 'sms', p_number, '{twilio}');
    -- An address has one suppression at a time: the lifted one may have replaced the suppression of an unreachable
    -- number.
    perform brainops_internal.settle_unreachable(p_tenant_id, p_number);
  end if;
end;
$$;

comment on function brainops_internal.settle_sms_consent(uuid, text) is
  'Suppresses the number, or lifts that suppression, by the latest STOP, START or opt-out error on record.';

revoke execute on function brainops_internal.settle_sms_consent(uuid, text) from public;
grant execute on function brainops_internal.settle_sms_consent(uuid, text) to brainops_system;

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

comment on function brainops_internal.record_sms_consent(uuid, text, uuid, text, timestamptz, jsonb) is
  'Adds an entry with source twilio to contact_consents. p_state: granted or denied. p_at: when the person texted, or the error arrived.';

revoke execute on function brainops_internal.record_sms_consent(uuid, text, uuid, text, timestamptz, jsonb) from public;
grant execute
on function brainops_internal.record_sms_consent(uuid, text, uuid, text, timestamptz, jsonb)
to brainops_system;

-- Serializes events about one person: the second one waits, and sees what the first one wrote.
create or replace function brainops_internal.lock_sms_number(p_tenant_id uuid, p_number text)
returns void
language sql
set search_path = ''
as $$
  select brainops_internal.lock_keys(p_tenant_id, 'sms_number', array[p_number]);
$$;

comment on function brainops_internal.lock_sms_number(uuid, text) is
  'Locks a phone number that a tenant texts with, until the end of the transaction.';

revoke execute on function brainops_internal.lock_sms_number(uuid, text) from public;
grant execute on function brainops_internal.lock_sms_number(uuid, text) to brainops_system;
