drop view if exists brainops.dead_letters;

create view brainops.dead_letters
with (security_invoker = true)
as
  select table_name, id, tenant_id, status, attempts, last_error, coalesce(finished_at, started_at) as since
  from brainops.jobs
  where status in ('failed', 'unconfirmed');

comment on view brainops.dead_letters is
  'Rows that need a person: failed (brainops.retry) and unconfirmed (brainops.confirm).';

grant select
on brainops.dead_letters
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
