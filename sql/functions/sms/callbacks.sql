-- Twilio's webhooks. The server records each verified event (record_twilio_event), and a job applies it
-- (apply_twilio_event, where to start). This file applies status callbacks; inbound texts are in inbound.sql, error
-- codes in errors.sql.

-- Independent of order and repetition: the same events lead to the same final state.
create or replace function brainops_internal.apply_twilio_event(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
begin
  return case
    when jsonb_typeof(p_event) <> 'object' then 'the event is not a JSON object'
    when p_event ->> 'kind' = 'status' then brainops_internal.apply_sms_callback(p_event, p_tenant_id)
    when p_event ->> 'kind' = 'inbound' then brainops_internal.apply_sms_inbound(p_event, p_tenant_id)
    else 'the event is neither a status callback nor an inbound text'
  end;
end;
$$;

comment on function brainops_internal.apply_twilio_event(jsonb, uuid) is
  'Applies one Twilio event, a status callback or an inbound text. Null, or the reason why it has no effect. p_tenant_id: the tenant whose own account sent it; null: the platform''s account sent it.';

revoke execute on function brainops_internal.apply_twilio_event(jsonb, uuid) from public;
grant execute on function brainops_internal.apply_twilio_event(jsonb, uuid) to brainops_system;

-- Adds the time of arrival, because Twilio's events carry no time.
create or replace function brainops_internal.record_twilio_event(p_event jsonb, p_tenant_id uuid)
returns int
language plpgsql
set search_path = ''
as $$
begin
  return brainops_internal.record_webhook_events(
    'twilio', jsonb_build_array(p_event || jsonb_build_object('received_at', brainops.now())), p_tenant_id
  );
end;
$$;

comment on function brainops_internal.record_twilio_event(jsonb, uuid) is
  'Records a verified Twilio event in webhook_events once, and queues a job to apply it; 1, or 0 if it was recorded before. p_tenant_id: the tenant whose own account sent it; null: the platform''s account sent it.';

revoke execute on function brainops_internal.record_twilio_event(jsonb, uuid) from public;
grant execute on function brainops_internal.record_twilio_event(jsonb, uuid) to brainops_system;

-- One row of sms_deliveries for each status of a message; a status that was reported before has no further effect.
create or replace function brainops_internal.apply_sms_callback(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_sid text := coalesce(p_event ->> 'MessageSid', p_event ->> 'SmsSid');
  v_status text := lower(coalesce(p_event ->> 'MessageStatus', p_event ->> 'SmsStatus'));
  v_code int := case when p_event ->> 'ErrorCode' ~ '^[1-9][0-9]{0,6}$' then (p_event ->> 'ErrorCode')::int end;
  v_at timestamptz := brainops_internal.webhook_time(p_event);
  v_sms brainops.sms_reference;
  v_number text;
  v_reason text;
begin
  if v_sid is null or brainops_internal.sms_status_rank(v_status) is null or v_status = 'refused' then
    return 'the callback has no MessageSid, or no known MessageStatus';
  end if;
  v_sms := brainops_internal.find_sms(brainops_internal.uuid_or_null(p_event ->> 'row'), v_sid, p_tenant_id);
  if v_sms.tenant_id is null then
    return 'the callback is about no text that went through this account';
  end if;
  -- Twilio's signature has no time, so a request can be replayed for ever. By now the ledger and sms_deliveries may have
  -- forgotten it; Twilio itself reports for a few days at most.
  if v_sms.started_at < v_at - interval '31 days' then
    return 'the callback is about a text that was sent more than 31 days ago';
  end if;
  v_number := coalesce(brainops_internal.sms_number(p_event ->> 'To', null), v_sms.to_number, 'unknown');
  perform brainops_internal.lock_sms_number(v_sms.tenant_id, v_number);
  insert into public.sms_deliveries (tenant_id, sms_id, recipient, event, provider_message_id, error_code, occurred_at, metadata)
  values (
    v_sms.tenant_id, v_sms.sms_id, v_number, v_status, v_sid, v_code, v_at,
    jsonb_strip_nulls(jsonb_build_object('from', p_event -> 'From', 'reason', p_event -> 'ErrorMessage'))
  )
  on conflict do nothing;
  if not found then
    return null; -- reported before
  end if;

  -- Checked first, because even an update of no row fires the queue's statement triggers.
  if exists (select from public.ai_sms_queue where id = v_sms.sms_id and status = 'unconfirmed') then
    perform brainops_internal.settle_sms_by_callbacks(v_sms.tenant_id, v_sms.sms_id);
  end if;

  if v_status in ('delivered', 'read') then
    perform brainops_internal.settle_unreachable(v_sms.tenant_id, v_number);
  elsif v_status in ('undelivered', 'failed') then
    v_reason := format('Twilio could not deliver a text: error %s', coalesce(v_code::text, 'unknown'));
    if v_code is not null then
      perform brainops_internal.apply_sms_error(v_sms.tenant_id, v_number, v_sms.lead_id, v_code, v_at, v_reason);
    end if;
  else
    return null;
  end if;
  perform brainops_internal.record_sms_lead_event(
    v_sms.tenant_id, v_number, v_sms.lead_id,
    case when v_status in ('undelivered', 'failed') then 'sms_failed' else 'sms_delivered' end,
    v_at, v_sid,
    jsonb_strip_nulls(jsonb_build_object(
      'sms_id', v_sms.sms_id, 'touch_id', v_sms.touch_id, 'enrolment_id', v_sms.enrolment_id, 'error_code', v_code
    ))
  );
  return null;
end;
$$;

comment on function brainops_internal.apply_sms_callback(jsonb, uuid) is
  'Applies a status callback: records it, settles an unconfirmed row, and applies an error. Null, or the reason why it has no effect.';

revoke execute on function brainops_internal.apply_sms_callback(jsonb, uuid) from public;
grant execute on function brainops_internal.apply_sms_callback(jsonb, uuid) to brainops_system;

-- A callback about a row with a lost outcome shows that Twilio accepted the text. Callbacks about the row's earlier
-- runs do not count.
create or replace function brainops_internal.settle_sms_by_callbacks(p_tenant_id uuid, p_id uuid)
returns void
language sql
set search_path = ''
as $$
  update public.ai_sms_queue as q
  set
    status = 'completed',
    sent_at = coalesce(q.sent_at, reported.at),
    provider_message_id = reported.provider_message_id,
    last_error = null
  from
    (
      select d.provider_message_id, min(d.occurred_at) as at
      from
        public.sms_deliveries as d
        inner join public.ai_sms_queue as mine on mine.tenant_id = d.tenant_id and mine.id = d.sms_id
      where
        d.tenant_id = p_tenant_id
        and d.sms_id = p_id
        and d.provider_message_id is not null
        and d.provider_message_id <> all (mine.earlier_message_ids)
      group by d.provider_message_id
      order by d.provider_message_id
      limit 1
    ) as reported
  where q.tenant_id = p_tenant_id and q.id = p_id and q.status = 'unconfirmed';
$$;

comment on function brainops_internal.settle_sms_by_callbacks(uuid, uuid) is
  'Completes an unconfirmed text if a status callback has reported it; no effect otherwise.';

revoke execute on function brainops_internal.settle_sms_by_callbacks(uuid, uuid) from public;
grant execute on function brainops_internal.settle_sms_by_callbacks(uuid, uuid) to brainops_system;

-- Found by our row id, which the callback's URL contains, else by the MessageSid. The archive is searched by row id
-- only.
create or replace function brainops_internal.find_sms(p_row uuid, p_message_sid text, p_tenant_id uuid)
returns brainops.sms_reference
language plpgsql
stable
set search_path = ''
as $$
declare
  v_found brainops.sms_reference;
begin
  select tenant_id, id, lead_id, touch_id, enrolment_id, to_number, started_at into v_found
    from public.ai_sms_queue as q
    where (q.id = p_row or (p_row is null and q.provider_message_id = p_message_sid))
      and q.tenant_id = coalesce(p_tenant_id, q.tenant_id)
    limit 1;
  if not found and p_row is not null then
    select
      a.tenant_id, a.row_id, (a.job_row ->> 'lead_id')::uuid, (a.job_row ->> 'touch_id')::uuid,
      (a.job_row ->> 'enrolment_id')::uuid, a.job_row ->> 'to_number', (a.job_row ->> 'started_at')::timestamptz
      into v_found
      from brainops.job_archive as a
      where a.row_id = p_row and a.table_name = 'ai_sms_queue' and a.tenant_id = coalesce(p_tenant_id, a.tenant_id)
      limit 1;
  end if;
  return v_found;
end;
$$;

comment on function brainops_internal.find_sms(uuid, text, uuid) is
  'The text that a callback is about, from ai_sms_queue or its archive; all fields null if it is in neither. p_tenant_id: only texts of this tenant, whose own account sent the callback, as in find_email; null: texts of all tenants.';

revoke execute on function brainops_internal.find_sms(uuid, text, uuid) from public;
grant execute on function brainops_internal.find_sms(uuid, text, uuid) to brainops_system;

-- Twilio's callbacks arrive in any order: the most advanced status wins.
create or replace function brainops_internal.sms_status_rank(p_event text)
returns int
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    array_position(
      '{refused,queued,accepted,scheduled,sending,sent,canceled,failed,undelivered,delivered,read}',
      p_event
    );
$$;

comment on function brainops_internal.sms_status_rank(text) is
  'Rank of a delivery status, from 1: of two statuses of one text, the one with the higher rank counts. Null for an unknown status.';

revoke execute on function brainops_internal.sms_status_rank(text) from public;
grant execute
on function brainops_internal.sms_status_rank(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.webhook_time(p_event jsonb)
returns timestamptz
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce((p_event ->> 'received_at')::timestamptz, brainops.now());
exception
  when data_exception then return brainops.now();
end;
$$;

comment on function brainops_internal.webhook_time(jsonb) is
  'When our server received the event (its received_at); now if that is missing or malformed.';

revoke execute on function brainops_internal.webhook_time(jsonb) from public;
grant execute on function brainops_internal.webhook_time(jsonb) to brainops_system;
