-- The record of status changes. Only triggers with the engine's rights write it, and only brainops.forget changes a
-- row: it erases the detail.
alter table brainops.job_events enable row level security;
alter table brainops.job_events force row level security;
drop policy if exists own_tenant on brainops.job_events;
create policy own_tenant on brainops.job_events
for select
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id = (select brainops.current_tenant_id()));
drop policy if exists every_row on brainops.job_events;
create policy every_row on brainops.job_events
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select on brainops.job_events to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
alter table brainops.job_events owner to brainops_system;

-- A year ahead, although maintenance__retain adds months each night: without a partition for the current month, every
-- status change would fail.
select brainops_internal.ensure_partitions('brainops.job_events', now()::date, 13);

create or replace trigger b0_append_only_truncate
before truncate on brainops.job_events
for each statement
execute function brainops_internal.refuse_change();

create or replace trigger b0_append_only
before update or delete on brainops.job_events
for each row
execute function brainops_internal.refuse_change();
