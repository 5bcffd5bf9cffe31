-- What Twilio's error codes lead to: a suppression, an opt-out, a pause, or nothing. An error comes from a refused API
-- call (record_sms_refusal) or from a status callback (apply_sms_callback in callbacks.sql). Start at apply_sms_error.

-- Handles the effects of a refused or undelivered text beyond its own row. Nothing is sent again: "undelivered" does
-- not prove that the handset did not get the text, so the campaign or a person decides what follows.
create or replace function brainops_internal.apply_sms_error(
  p_tenant_id uuid,
  p_number text,
  p_lead_id uuid,
  p_code int,
  p_at timestamptz,
  p_words text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  -- One text that a carrier filters is chance; several within an hour point to the tenant's texts.
  c_routes constant int := 3;
begin
  case brainops_internal.sms_error_class(p_code)
    when 'recipient' then
      perform brainops_internal.suppress(p_tenant_id, 'sms', p_number, 'bounced', 'twilio');
    when 'opted_out' then
      perform brainops_internal.settle_sms_consent(p_tenant_id, p_number);
      perform brainops_internal.record_sms_consent(
        p_tenant_id, p_number, p_lead_id, 'denied', p_at, jsonb_build_object('error_code', p_code)
      );
      perform brainops_internal.record_sms_lead_event(
        p_tenant_id, p_number, null, 'opted_out', p_at, 'twilio:' || p_code || ':' || p_at, jsonb_build_object('error_code', p_code)
      );
    when 'sender', 'account' then
      perform brainops_internal.pause_sms(p_tenant_id, p_words);
    when 'route' then
      -- Without the lock, three concurrent failures would each count only themselves. Lock order: the number
      -- (lock_sms_number) first.
      perform brainops_internal.lock_keys(p_tenant_id, 'sms_route', array[p_code::text]);
      -- Looks at every hour that contains this failure, because reports arrive in any order.
      if exists (
        select from
          (
            select
              count(*) over (order by occurred_at range between interval '1 hour' preceding and current row) as n
            from public.sms_deliveries
            where tenant_id = p_tenant_id and error_code = p_code
              and occurred_at between p_at - interval '1 hour' and p_at + interval '1 hour'
          ) as hours
        where hours.n >= c_routes
      ) then
        perform brainops_internal.pause_sms(p_tenant_id, c_routes || ' or more texts failed within an hour: ' || p_words);
      end if;
    when 'unreachable' then
      perform brainops_internal.settle_unreachable(p_tenant_id, p_number);
    else
      null; -- concerns only this text
  end case;
end;
$$;

comment on function brainops_internal.apply_sms_error(uuid, text, uuid, int, timestamptz, text) is
  'Applies what a Twilio error code means beyond the text: suppression, consent or a pause. p_code: Twilio''s ErrorCode. p_words: the reason, for the pause and its notification.';

revoke execute on function brainops_internal.apply_sms_error(uuid, text, uuid, int, timestamptz, text) from public;
grant execute
on function brainops_internal.apply_sms_error(uuid, text, uuid, int, timestamptz, text)
to brainops_system;

-- According to twilio.com/docs/api/errors. src/providers/twilio.ts has the same list for refusals of the API call;
-- test/sms/classes.test.ts compares the two.
create or replace function brainops_internal.sms_error_class(p_code int)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when p_code in (21211, 21214, 21217, 21614, 30005, 30006) then 'recipient'
      when p_code in (21610, 30004) then 'opted_out'
      when p_code in (21212, 21603, 21606, 21659, 21660, 21661, 30032, 30034, 30035) then 'sender'
      when p_code in (21408, 21608, 21612, 30007) then 'route'
      when p_code in (20003, 20005, 20006, 30002) then 'account'
      when p_code = 30003 then 'unreachable'
      when p_code in (20429, 20503, 21611, 30001) then 'later'
      when p_code in (20500, 30008, 30500) then 'unknown'
      else 'text'
    end;
$$;

comment on function brainops_internal.sms_error_class(int) is
  'Class of a Twilio error code: recipient (no text can reach the number), opted_out, sender (our number may not send), route (not from this sender to there, or filtered), account, unreachable (the handset may be on again later), later (try again), unknown (Twilio does not know), text (any other code, or null: only this text).';

revoke execute on function brainops_internal.sms_error_class(int) from public;
grant execute
on function brainops_internal.sms_error_class(int)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Called by the worker that holds the row, as the row's tenant, before the row is settled.
create or replace function brainops_internal.record_sms_refusal(p_id uuid, p_lease uuid, p_code int, p_words text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_sms public.ai_sms_queue;
begin
  select * into v_sms
    from public.ai_sms_queue
    where id = p_id and lease = p_lease and tenant_id = brainops.current_tenant_id();
  if not found then
    return;
  end if;
  insert into public.sms_deliveries as d (tenant_id, sms_id, recipient, event, error_code, occurred_at, metadata)
  values (v_sms.tenant_id, p_id, v_sms.to_number, 'refused', p_code, brainops.now(), jsonb_build_object('reason', p_words))
  on conflict (tenant_id, provider_message_id, event, sms_id) do update
    set
      error_code = excluded.error_code,
      occurred_at = excluded.occurred_at,
      recipient = excluded.recipient,
      metadata = excluded.metadata;
  perform brainops_internal.apply_sms_error(v_sms.tenant_id, v_sms.to_number, v_sms.lead_id, p_code, brainops.now(), p_words);
  perform brainops_internal.record_sms_lead_event(
    v_sms.tenant_id, v_sms.to_number, v_sms.lead_id, 'sms_failed', brainops.now(), p_id || ':refused',
    jsonb_strip_nulls(jsonb_build_object(
      'sms_id', p_id, 'touch_id', v_sms.touch_id, 'campaign_id', v_sms.enrolment_id, 'error_code', p_code
    ))
  );
end;
$$;

comment on function brainops_internal.record_sms_refusal(uuid, uuid, int, text) is
  'Records that Twilio refused the text, and applies what the code means: suppression, consent or a pause. No effect if the lease no longer holds. p_code: Twilio''s ErrorCode. p_words: the reason.';

alter function brainops_internal.record_sms_refusal(uuid, uuid, int, text) owner to brainops_system;
revoke execute on function brainops_internal.record_sms_refusal(uuid, uuid, int, text) from public;
grant execute on function brainops_internal.record_sms_refusal(uuid, uuid, int, text) to brainops_worker;

-- One text to a handset that is off stops nothing. Three of them within 14 days, at least 4 hours from first to last
-- and without a delivery in between, suppress the number for 30 days. A later delivery lifts that.
create or replace function brainops_internal.settle_unreachable(p_tenant_id uuid, p_number text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  c_times constant int := 3;
  c_apart constant interval := '4 hours';
  c_within constant interval := '14 days';
  c_for constant interval := '30 days';
  v_delivered_at timestamptz;
  v_last timestamptz;
begin
  select max(occurred_at) into v_delivered_at
    from public.sms_deliveries
    where tenant_id = p_tenant_id and recipient = p_number and event in ('delivered', 'read');
  select max(occurred_at) into v_last
    from public.sms_deliveries
    where tenant_id = p_tenant_id and recipient = p_number and error_code = 30003
      and occurred_at > coalesce(v_delivered_at, '-infinity')
      and occurred_at > brainops.now() - c_within
    having count(distinct provider_message_id) >= c_times and max(occurred_at) - min(occurred_at) >= c_apart;
  if v_last is null then
    delete from public.contact_suppressions
    where tenant_id = p_tenant_id and channel = 'sms' and address_key = p_number
      and reason = 'unreachable' and source = 'twilio';
    return;
  end if;
  insert into public.contact_suppressions as s (tenant_id, channel, address, reason, source, expires_at)
  values (p_tenant_id, 'sms', p_number, 'unreachable', 'twilio', v_last + c_for)
  on conflict (tenant_id, channel, address_key) do update
    set expires_at = excluded.expires_at
    where s.reason = 'unreachable' and s.source = 'twilio';
end;
$$;

comment on function brainops_internal.settle_unreachable(uuid, text) is
  'Suppresses a number for 30 days, or lifts that suppression, by the unreachable errors and deliveries on record.';

revoke execute on function brainops_internal.settle_unreachable(uuid, text) from public;
grant execute on function brainops_internal.settle_unreachable(uuid, text) to brainops_system;

-- Holds all of the tenant's texts until a person resumes them. A pause that exists already is kept, and no second
-- notification is sent.
create or replace function brainops_internal.pause_sms(p_tenant_id uuid, p_reason text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into brainops.pauses (table_name, tenant_id, reason)
  values ('ai_sms_queue', p_tenant_id, p_reason)
  on conflict (tenant_id, table_name, channel) do nothing;
  if found and to_regprocedure('brainops.notify(uuid,text,text,text)') is not null then
    perform brainops.notify(
      p_tenant_id,
      'Text messages are paused',
      p_reason || E'\n\nWhen the cause is fixed, an admin resumes with: select brainops.resume(''ai_sms_queue'', …)',
      'ai_sms_queue paused ' || to_char(brainops.now(), 'YYYY-MM-DD HH24')
    );
  end if;
end;
$$;

comment on function brainops_internal.pause_sms(uuid, text) is
  'Pauses ai_sms_queue for the tenant and notifies it, at most once an hour.';

revoke execute on function brainops_internal.pause_sms(uuid, text) from public;
grant execute on function brainops_internal.pause_sms(uuid, text) to brainops_system;
