drop view if exists brainops.queue_health;

create view brainops.queue_health
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
    max(last_error) filter (where status = 'pending') as waiting_for,
    max(s.since) as stalled_since
  from
    brainops.jobs
    left join brainops_internal.stalls() as s using (table_name)
  where status not in ('completed', 'cancelled', 'skipped')
  group by table_name, tenant_id
  -- webhook_events is not a job table, but a payment may depend on an event that failed.
  union all
  select 'webhook_events', tenant_id, 0, 0, 0, 0, 0, count(*), null, null, null
  from public.webhook_events
  where status = 'failed'
  group by tenant_id;

comment on view brainops.queue_health is
  'One row per job table and tenant that has unfinished or failed rows: how many are due, later, in processing, unconfirmed, awaiting approval and failed; oldest_due: how late the oldest due row is, null if none is due; waiting_for: one reason why rows wait; stalled_since: since when rows of the table have been due and none was claimed, null if that is not so, and for tenants. Failed webhook events are counted as table webhook_events, with tenant_id null if the tenant is not known.';

grant select
on brainops.queue_health
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
