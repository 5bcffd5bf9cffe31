-- Finished rows, moved here by brainops.archive_done. They may be deleted (brainops.forget), not changed.
alter table brainops.job_archive enable row level security;
alter table brainops.job_archive force row level security;
drop policy if exists own_tenant on brainops.job_archive;
create policy own_tenant on brainops.job_archive
for select
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id = (select brainops.current_tenant_id()));
drop policy if exists every_row on brainops.job_archive;
create policy every_row on brainops.job_archive
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select on brainops.job_archive to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
alter table brainops.job_archive owner to brainops_system;

-- A year ahead, as for brainops.job_events. brainops.archive_done also creates the months that it needs.
select brainops_internal.ensure_partitions('brainops.job_archive', now()::date, 13);

create or replace trigger b0_append_only
before update on brainops.job_archive
for each row
execute function brainops_internal.refuse_change();
