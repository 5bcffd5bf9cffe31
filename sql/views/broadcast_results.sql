drop view if exists brainops.broadcast_results;

create view brainops.broadcast_results
with (security_invoker = true)
as
  select
    b.id,
    b.tenant_id,
    b.name,
    b.status,
    b.launched_at,
    coalesce(r.recipients, 0) as recipients,
    coalesce(r.waiting, 0) as waiting,
    coalesce(r.sent, 0) as sent,
    coalesce(r.skipped, 0) as skipped,
    coalesce(r.failed, 0) as failed,
    coalesce(r.unconfirmed, 0) as unconfirmed,
    coalesce(r.cancelled, 0) as cancelled
  from
    public.ai_broadcasts as b
    left join (
      select
        q.tenant_id,
        q.broadcast_id,
        count(*) as recipients,
        count(*) filter (where q.status in ('pending', 'processing', 'awaiting_approval')) as waiting,
        count(*) filter (where q.status = 'completed') as sent,
        count(*) filter (where q.status = 'skipped') as skipped,
        count(*) filter (where q.status = 'failed') as failed,
        count(*) filter (where q.status = 'unconfirmed') as unconfirmed,
        count(*) filter (where q.status = 'cancelled') as cancelled
      from public.ai_email_queue as q
      where q.broadcast_id is not null
      group by q.tenant_id, q.broadcast_id
    ) as r
      on r.tenant_id = b.tenant_id and r.broadcast_id = b.id;

comment on view brainops.broadcast_results is
  'Recipients of each broadcast by status. Counts rows that are still in ai_email_queue, so not those that were archived.';

grant select
on brainops.broadcast_results
to brainops_tenant, brainops_service, brainops_worker, brainops_admin, brainops_system;
