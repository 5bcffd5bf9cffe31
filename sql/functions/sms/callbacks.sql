-- One event of Twilio's. Returns null, or why it has no effect. p_tenant_id: whose account or text it
-- is about; null for what somebody wrote to the installation's own account.
create or replace function brainops_internal.apply_twilio_event(p_event jsonb, p_tenant_id uuid)
returns text
language plpgsql
set search_path = ''
as $$
begin
  return case
    when jsonb_typeof(p_event) <> 'object' then 'it is no event'
    when p_event ->> 'kind' = 'status' then brainops_internal.apply_sms_callback(p_event, p_tenant_id)
    when p_event ->> 'kind' = 'inbound' then brainops_internal.apply_sms_inbound(p_event, p_tenant_id)
    else 'it is neither a status nor a text'
  end;
end;
$$;

comment on function brainops_internal.apply_twilio_event(jsonb, uuid) is
  'Applies a status callback or an inbound text; null, or why it has no effect. Any order, any number of times: one end state.';

revoke execute on function brainops_internal.apply_twilio_event(jsonb, uuid) from public;
grant execute on function brainops_internal.apply_twilio_event(jsonb, uuid) to brainops_system;

-- Writes a verified event down with the time it came, which Twilio's own events lack.
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
  'Ledgers a verified event of Twilio''s once, with the time it came; returns 0 where it was known. p_tenant_id: whose own account sent it, null for the installation''s.';

revoke execute on function brainops_internal.record_twilio_event(jsonb, uuid) from public;
grant execute on function brainops_internal.record_twilio_event(jsonb, uuid) to brainops_system;

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
    return 'it has no MessageSid and MessageStatus that anybody knows';
  end if;
  v_sms := brainops_internal.find_sms(brainops_internal.uuid_or_null(p_event ->> 'row'), v_sid);
  if v_sms.tenant_id is null then
    return 'it is about no text of ours';
  end if;
  if v_sms.tenant_id <> p_tenant_id then
    return 'it is about another tenant''s text';
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
    return null; -- told before
  end if;

  -- Asked first, because an update of no row still costs the queue's triggers.
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

revoke execute on function brainops_internal.apply_sms_callback(jsonb, uuid) from public;
grant execute on function brainops_internal.apply_sms_callback(jsonb, uuid) to brainops_system;

-- A callback about a row whose outcome we lost says that Twilio had it.
create or replace function brainops_internal.settle_sms_by_callbacks(p_tenant_id uuid, p_id uuid)
returns void
language sql
set search_path = ''
as $$
  update public.ai_sms_queue as q
  set
    status = 'completed',
    sent_at = coalesce(q.sent_at, told.at),
    provider_message_id = told.provider_message_id,
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
    ) as told
  where q.tenant_id = p_tenant_id and q.id = p_id and q.status = 'unconfirmed';
$$;

revoke execute on function brainops_internal.settle_sms_by_callbacks(uuid, uuid) from public;
grant execute on function brainops_internal.settle_sms_by_callbacks(uuid, uuid) to brainops_system;

-- The text a callback is about: by our id in its URL, else by the MessageSid; in the archive too.
create or replace function brainops_internal.find_sms(p_row uuid, p_message_sid text)
returns brainops.sms_reference
language plpgsql
stable
set search_path = ''
as $$
declare
  v_found brainops.sms_reference;
begin
  select tenant_id, id, lead_id, touch_id, enrolment_id, to_number into v_found
    from public.ai_sms_queue as q
    where q.id = p_row or (p_row is null and q.provider_message_id = p_message_sid)
    limit 1;
  if not found and p_row is not null then
    select
      a.tenant_id, a.row_id, (a.job_row ->> 'lead_id')::uuid, (a.job_row ->> 'touch_id')::uuid,
      (a.job_row ->> 'enrolment_id')::uuid, a.job_row ->> 'to_number'
      into v_found
      from brainops.job_archive as a
      where a.row_id = p_row and a.table_name = 'ai_sms_queue'
      limit 1;
  end if;
  return v_found;
end;
$$;

revoke execute on function brainops_internal.find_sms(uuid, text) from public;
grant execute on function brainops_internal.find_sms(uuid, text) to brainops_system;

-- Twilio keeps no order: what counts is the farthest that a text has come.
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
  'How far a text has come: of two statuses of one text, the one with the higher rank holds, in whichever order they were told.';

revoke execute on function brainops_internal.sms_status_rank(text) from public;
grant execute
on function brainops_internal.sms_status_rank(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- When our server took the event: written into it there, as Twilio's events carry no time.
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

revoke execute on function brainops_internal.webhook_time(jsonb) from public;
grant execute on function brainops_internal.webhook_time(jsonb) to brainops_system;
