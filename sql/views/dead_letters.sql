drop view if exists brainops.dead_letters;

create view brainops.dead_letters
with (security_invoker = true)
as
  select table_name, id, tenant_id, status, attempts, last_error, coalesce(finished_at, started_at) as since
  from brainops.jobs
  where status in ('failed', 'unconfirmed');

comment on view brainops.dead_letters is
  'Rows of all job tables that need a person: failed (see brainops.retry) and unconfirmed (see brainops.confirm). since: when the row failed; for an unconfirmed row, when its last attempt started.';

grant select
on brainops.dead_letters
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
