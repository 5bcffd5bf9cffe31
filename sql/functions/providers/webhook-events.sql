-- Webhook events: recorded first, applied later. The HTTP server verifies a request, calls record_webhook_events and
-- answers; the task webhook_event__process calls process_webhook_events. Events may arrive in any order and any
-- number of times, with the same result.

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
  -- Enough that the cost of the job itself is negligible, and few enough that workers share a large request.
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
    -- Sorted, so that two requests with the same events cannot deadlock.
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
  'Records a JSON array of verified events, each once, and queues jobs that process them; returns the number of new ones. p_provider: sendgrid, twilio or stripe. p_tenant_id: the tenant whose own account sent them; null for the platform''s account.';

revoke execute on function brainops_internal.record_webhook_events(text, jsonb, uuid) from public;
grant execute on function brainops_internal.record_webhook_events(text, jsonb, uuid) to brainops_system;

-- Each event is applied in a subtransaction of its own. One that fails does not affect the others, is tried three
-- times in all, and then stays as failed. apply_<provider>_event returns null, or the reason why the event has no
-- effect.
--
-- Events of many tenants come in one request, and a tenant may keep its own rows locked. So an event waits for a lock for
-- half a second. Then it stays pending, without counting an attempt, and so do the tenant's other events of this call.
create or replace function brainops_internal.process_webhook_events(p_ids uuid[])
returns table (status text, events int)
language plpgsql
set search_path = ''
set lock_timeout = '500ms'
as $$
declare
  c_attempts constant int := 3;
  v_row public.webhook_events;
  v_email brainops.email_reference;
  v_skip_reason text;
  v_error text;
  v_held boolean;
  v_held_tenants uuid[] := '{}';
begin
  for v_row in
    select * from public.webhook_events as w
    where w.id = any (p_ids) and w.status = 'pending'
    -- Sorted by person or object, so that two processes with events about the same persons or objects (a repeated
    -- delivery) cannot deadlock.
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
    v_held := false;
    continue when v_row.tenant_id = any (v_held_tenants);
    begin
      perform set_config('brainops.event_held', '', true);
      -- One statement per provider, so that its function is looked up only when one of its events comes.
      case v_row.provider
        when 'sendgrid' then
          -- A tenant's own account may report on the tenant's own mails, and on no others.
          v_email := brainops_internal.find_email(v_row.payload, v_row.tenant_id);
          v_skip_reason := brainops_internal.apply_sendgrid_event(v_row.payload, v_email);
        when 'twilio' then v_skip_reason := brainops_internal.apply_twilio_event(v_row.payload, v_row.tenant_id);
        when 'stripe' then v_skip_reason := brainops_internal.apply_stripe_event(v_row.payload, v_row.tenant_id);
        else v_skip_reason := 'unknown provider ' || v_row.provider;
      end case;
      -- What it means for other tenants is applied (apply_sms_inbound).
      v_held := current_setting('brainops.event_held') <> '';
    exception
      when lock_not_available then
        v_held := true;
        v_held_tenants := v_held_tenants || v_row.tenant_id;
      when others then v_error := sqlerrm;
    end;
    if v_held then
      update public.webhook_events as w set last_error = 'waits for rows that another transaction has locked' where w.id = v_row.id;
      continue;
    end if;
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
  'Applies those of the events that are pending, each on its own; returns the number of the given events per status. Events whose tenant''s rows are locked stay pending.';

revoke execute on function brainops_internal.process_webhook_events(uuid[]) from public;
grant execute on function brainops_internal.process_webhook_events(uuid[]) to brainops_system;

-- Setting an event to pending runs it again, as in job tables.
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

comment on function brainops_internal.before_webhook_update is
  'Trigger: resets a webhook event whose status is set to pending, and queues a job that processes it.';

alter function brainops_internal.before_webhook_update() owner to brainops_system;
revoke execute on function brainops_internal.before_webhook_update() from public;

-- Handles three things that no trigger sees: events whose job was lost, mails that became unconfirmed after their events
-- had come (a webhook can be faster than our own time limit), and events of Stripe that were missed by the transaction
-- which made their object known. No transaction of ours lasts as long as the hour that is looked back.
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
    -- A row that a client has locked is left to the next minute: the sweep is for all tenants.
    for update of q skip locked
  ) as reported;
  perform brainops_internal.wake_missed_stripe_events('1 hour');
  return coalesce(cardinality(v_ids), 0);
end;
$$;

comment on function brainops_internal.sweep_webhook_events is
  'Queues a job for events that have been pending for more than a minute, settles unconfirmed mails that have events, at most 1,000 of each, and wakes events of Stripe whose object is known by now. Returns the number of events. Called once a minute.';

revoke execute on function brainops_internal.sweep_webhook_events() from public;
grant execute on function brainops_internal.sweep_webhook_events() to brainops_system;

-- The key by which a repeated event is recognised: the provider's id, or without one a digest of the contents.
create or replace function brainops_internal.webhook_event_id(p_provider text, p_event jsonb)
returns text
language sql
immutable
set search_path = ''
as $$
  select
    case
      -- Providers' ids have at most 100 characters. A longer one might not fit into the index, and would make the whole
      -- request fail.
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
  'The id of an event: SendGrid''s sg_event_id, Stripe''s id, or event_id, which our own route makes for Twilio; else md5: and the digest of its contents.';

revoke execute on function brainops_internal.webhook_event_id(text, jsonb) from public;
grant execute on function brainops_internal.webhook_event_id(text, jsonb) to brainops_system;

-- Uses only our own id, which SendGrid's custom arguments and Twilio's callback URL contain, so that the same event
-- always refers to the same row.
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
  'The id of the job row that an event names by our id; null if it names none, and for Stripe.';

revoke execute on function brainops_internal.webhook_event_row(text, jsonb) from public;
grant execute on function brainops_internal.webhook_event_row(text, jsonb) to brainops_system;
