-- An event that had waited for its object was tried only once, inside the event that made the object known: a passing
-- error there (a deadlock, say) made it failed, and a refund, dispute or payment was never booked. Now it goes back to
-- pending, and has its three attempts like any other. What still fails is seen in brainops.queue_health.
-- Old workers go on meanwhile: they call what is replaced here by its old names.
set local lock_timeout = '2s';

-- Applies the events that waited for these ids; each stands alone.
create or replace function brainops.wake_stripe_events(p_account text, p_tenant_id uuid, p_ids text[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_event_ids text[];
  v_row public.webhook_events;
  v_reason text;
  v_error text;
begin
  select array_agg(distinct event_id) into v_event_ids
    from brainops.waiting_stripe_events
    where account = p_account and object_id = any (p_ids);
  if v_event_ids is null then
    return;
  end if;
  delete from brainops.waiting_stripe_events where account = p_account and event_id = any (v_event_ids);
  for v_row in
    select * from public.webhook_events
    where provider = 'stripe' and provider_event_id = any (v_event_ids) and tenant_id is not distinct from p_tenant_id and status <> 'pending'
    order by (payload ->> 'created')::bigint, provider_event_id
    for update
  loop
    v_error := null;
    begin
      v_reason := brainops.apply_stripe_event(v_row.payload, p_tenant_id);
    exception
      when others then v_error := sqlerrm;
    end;
    -- It waits for nothing any more, so whatever failed may pass: pending gives it a job (process_again),
    -- and brainops.process_webhook_events gives it up after three attempts.
    update public.webhook_events
    set
      status = case when v_error is not null then 'pending' when v_reason is null then 'completed' else 'skipped' end,
      skip_reason = case when v_error is null then v_reason end,
      last_error = v_error,
      processed_at = case when v_error is null then brainops.now() end
    where id = v_row.id;
  end loop;
end;
$$;

comment on function brainops.wake_stripe_events(text, uuid, text[]) is
  'Applies the events that waited for one of these ids; one that fails goes back to pending.';

create or replace view brainops.queue_health
with (security_invoker = true)
as
  select
    table_name,
    tenant_id,
    count(*) filter (where status = 'pending' and scheduled_for <= brainops.now()) as due,
    count(*) filter (where status = 'pending' and scheduled_for > brainops.now()) as later,
    count(*) filter (where status = 'processing') as processing,
    count(*) filter (where status = 'unconfirmed') as unconfirmed,
    count(*) filter (where status = 'awaiting_approval') as awaiting_approval,
    count(*) filter (where status = 'failed') as failed,
    brainops.now() - min(scheduled_for) filter (
      where status = 'pending' and scheduled_for <= brainops.now()
    ) as oldest_due,
    max(last_error) filter (where status = 'pending') as waiting_for
  from brainops.jobs
  where status not in ('completed', 'cancelled', 'skipped')
  group by table_name, tenant_id
  -- No job table, but money may hang on an event that was given up.
  union all
  select 'webhook_events', tenant_id, 0, 0, 0, 0, 0, count(*), null, null
  from public.webhook_events
  where status = 'failed'
  group by tenant_id;

comment on view brainops.queue_health is
  'For each job table and tenant: what waits, runs and failed, how late the oldest due row is, and one reason that rows wait for. And where webhook_events failed, how many (tenant_id null: nobody knows whose).';
