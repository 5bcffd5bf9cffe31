-- What providers report: a ledger first, effects later. The HTTP server verifies, records and
-- answers; a job processes. Any order, any number of times, one end state.

-- Writes events down, each once, and sets jobs to process them. Returns how many were new.
create or replace function brainops_internal.record_webhook_events(
  p_provider text,
  p_events jsonb,
  p_tenant_id uuid default null
)
returns int
language plpgsql
set search_path = ''
as $$
declare
  -- So many that the job's own cost does not count, so few that several workers share a large batch.
  c_per_job constant int := 500;
  v_ids uuid[];
begin
  with recorded as (
    insert into public.webhook_events (provider, provider_event_id, tenant_id, payload, signature_ok)
    select distinct on (i.event_id) p_provider, i.event_id, i.tenant_id, i.event, true
    from (
      select
        brainops_internal.webhook_event_id(p_provider, e) as event_id,
        coalesce(p_tenant_id, q.tenant_id, s.tenant_id, a.tenant_id) as tenant_id,
        e as event
      from jsonb_array_elements(p_events) as e
      left join public.ai_email_queue as q
        on p_provider = 'sendgrid' and q.id = brainops_internal.webhook_event_row(p_provider, e)
      left join lateral (
        select t.tenant_id from brainops.jobs as t
        where p_provider = 'twilio' and t.table_name = 'ai_sms_queue' and t.id = brainops_internal.webhook_event_row(p_provider, e)
      ) as s on true
      left join lateral (
        select j.tenant_id from brainops.job_archive as j
        where q.id is null and s.tenant_id is null and j.row_id = brainops_internal.webhook_event_row(p_provider, e)
        limit 1
      ) as a on true
    ) as i
    -- One order for everyone, so that two requests with the same events never wait for each other.
    order by i.event_id
    on conflict do nothing
    returning id
  )
  select array_agg(id) into v_ids from recorded;
  for i in 1..coalesce(cardinality(v_ids), 0) by c_per_job
  loop
    perform graphile_worker.add_job('webhook_event__process', json_build_object('ids', v_ids[i:i + c_per_job - 1]));
  end loop;
  return coalesce(cardinality(v_ids), 0);
end;
$$;

comment on function brainops_internal.record_webhook_events(text, jsonb, uuid) is
  'Ledgers an array of verified events, each once, and sets a job to process them; returns how many were new. p_tenant_id: whose own account sent them, null for the installation''s.';

revoke execute on function brainops_internal.record_webhook_events(text, jsonb, uuid) from public;
grant execute on function brainops_internal.record_webhook_events(text, jsonb, uuid) to brainops_system;

-- Each event stands alone: one that fails takes nothing with it, is tried three times in all, and
-- then stays as failed. apply_<provider>_event returns null, or why the event has no effect.
create or replace function brainops_internal.process_webhook_events(p_ids uuid[])
returns table (status text, events int)
language plpgsql
set search_path = ''
as $$
declare
  c_attempts constant int := 3;
  v_row public.webhook_events;
  v_skip_reason text;
  v_error text;
begin
  for v_row in
    select * from public.webhook_events as w
    where w.id = any (p_ids) and w.status = 'pending'
    -- By person or object, for everyone who processes: two who have the same ones in hand (a
    -- repeated batch) never wait for each other crosswise.
    order by
      w.provider,
      lower(coalesce(w.payload ->> 'email', w.payload ->> 'From', w.payload #>> '{data,object,id}')),
      w.payload ->> 'event',
      w.payload ->> 'timestamp',
      w.id
    for update skip locked
  loop
    v_error := null;
    v_skip_reason := null;
    begin
      -- One statement each: a provider's function is looked for only when one of its events comes.
      case v_row.provider
        when 'sendgrid' then
          -- A tenant's own account may sign what it likes about its own mails, and no others.
          if v_row.tenant_id <> (brainops_internal.find_email(v_row.payload)).tenant_id then
            v_skip_reason := 'it is about a message of another tenant';
          else
            v_skip_reason := brainops_internal.apply_sendgrid_event(v_row.payload);
          end if;
        when 'twilio' then v_skip_reason := brainops_internal.apply_twilio_event(v_row.payload, v_row.tenant_id);
        when 'stripe' then v_skip_reason := brainops_internal.apply_stripe_event(v_row.payload, v_row.tenant_id);
        else v_skip_reason := 'nobody knows the provider ' || v_row.provider;
      end case;
    exception
      when others then v_error := sqlerrm;
    end;
    update public.webhook_events as w
    set
      attempts = w.attempts + 1,
      last_error = v_error,
      skip_reason = v_skip_reason,
      status = case
        when v_error is null and v_skip_reason is null then 'completed'
        when v_error is null then 'skipped'
        when w.attempts + 1 >= c_attempts then 'failed'
        else 'pending'
      end,
      processed_at = case when v_error is null or w.attempts + 1 >= c_attempts then brainops.now() end
    where w.id = v_row.id;
  end loop;
  perform pg_notify('brainops_jobs', 'webhook_events');
  return query
    select w.status, count(*)::int from public.webhook_events as w where w.id = any (p_ids) group by w.status;
end;
$$;

comment on function brainops_internal.process_webhook_events(uuid[]) is
  'Applies pending events, each on its own; returns how many rows now have which status.';

revoke execute on function brainops_internal.process_webhook_events(uuid[]) from public;
grant execute on function brainops_internal.process_webhook_events(uuid[]) to brainops_system;

-- Setting a row to pending runs it again, as in every job table.
create or replace function brainops_internal.before_webhook_update()
returns trigger
language plpgsql
-- Admins may set the status, but only the owner of graphile_worker may add jobs.
security definer
set search_path = ''
as $$
begin
  new.attempts := 0;
  new.processed_at := null;
  new.skip_reason := null;
  perform graphile_worker.add_job('webhook_event__process', json_build_object('ids', array[new.id]));
  return new;
end;
$$;

alter function brainops_internal.before_webhook_update() owner to brainops_system;
revoke execute on function brainops_internal.before_webhook_update() from public;

-- The sweep's second half: events whose job got lost, and mails that became unconfirmed after their
-- events had come (the webhook can be faster than our own time limit).
create or replace function brainops_internal.sweep_webhook_events()
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  select array_agg(id) into v_ids
    from (
      select id from public.webhook_events
      where status = 'pending' and received_at < brainops.now() - interval '1 minute'
      order by received_at
      limit 1000
    ) as s;
  if v_ids is not null then
    perform graphile_worker.add_job(
      'webhook_event__process', json_build_object('ids', v_ids), job_key => 'webhook_events:sweep'
    );
  end if;

  perform brainops_internal.settle_by_events(tenant_id, id)
  from (
    select q.tenant_id, q.id
    from public.ai_email_queue as q
    where q.status = 'unconfirmed'
      and exists (select from public.email_deliveries as d where d.tenant_id = q.tenant_id and d.email_id = q.id)
    limit 1000
  ) as told;
  return coalesce(cardinality(v_ids), 0);
end;
$$;

revoke execute on function brainops_internal.sweep_webhook_events() from public;
grant execute on function brainops_internal.sweep_webhook_events() to brainops_system;

-- What an event is known by: the provider's id of it, and where it has none, its contents.
create or replace function brainops_internal.webhook_event_id(p_provider text, p_event jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      -- Ids have at most 100 characters; a longer one would not fit into the index, and would take
      -- the whole batch with it.
      when length(e.id) between 1 and 200 then e.id
      else 'md5:' || md5(p_event::text)
    end
  from
    (
      select
        p_event ->> case p_provider
          when 'sendgrid' then 'sg_event_id'
          when 'stripe' then 'id'
          else 'event_id'
        end as id
    ) as e;
$$;

comment on function brainops_internal.webhook_event_id(text, jsonb) is
  'What an event is known by: sg_event_id, Stripe''s id, event_id (made by our own route for Twilio), else md5: of its contents.';

revoke execute on function brainops_internal.webhook_event_id(text, jsonb) from public;
grant execute on function brainops_internal.webhook_event_id(text, jsonb) to brainops_system;

-- By our own id alone, which travels in SendGrid's custom arguments and in Twilio's callback URL:
-- it is what makes the same event the same row each time.
create or replace function brainops_internal.webhook_event_row(p_provider text, p_event jsonb)
returns uuid
language sql
immutable
set search_path = ''
as $$
  select
    brainops_internal.uuid_or_null(
      p_event ->> case p_provider
        when 'sendgrid' then 'bo_msg'
        when 'twilio' then 'row'
      end
    );
$$;

comment on function brainops_internal.webhook_event_row(text, jsonb) is
  'The id of the job row that an event says it is about; null where it says none.';

revoke execute on function brainops_internal.webhook_event_row(text, jsonb) from public;
grant execute on function brainops_internal.webhook_event_row(text, jsonb) to brainops_system;
