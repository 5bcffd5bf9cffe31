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

grant select
on brainops.queue_health
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
