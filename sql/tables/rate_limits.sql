-- Admins write the limits; claims reserve slots with the engine's rights (brainops_internal.reserve_rate_slots).
alter table brainops.rate_limits enable row level security;
alter table brainops.rate_limits force row level security;
drop policy if exists every_row on brainops.rate_limits;
create policy every_row on brainops.rate_limits
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.rate_limits to brainops_admin, brainops_system;

-- A claim, which runs as the tenant, checks whether there is a limit: its own or the common one.
drop policy if exists own_tenant on brainops.rate_limits;
create policy own_tenant on brainops.rate_limits
for select
to brainops_worker
using (tenant_id is null or tenant_id = (select brainops.current_tenant_id()));

grant select on brainops.rate_limits to brainops_worker;
