alter table brainops.rate_limits enable row level security;
alter table brainops.rate_limits force row level security;
drop policy if exists every_row on brainops.rate_limits;
create policy every_row on brainops.rate_limits
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.rate_limits to brainops_admin, brainops_system;

-- A tenant may see its own limit and the common one: a claim looks whether there is any.
drop policy if exists own_tenant on brainops.rate_limits;
create policy own_tenant on brainops.rate_limits
for select
to brainops_worker
using (tenant_id is null or tenant_id = (select brainops.current_tenant_id()));

grant select on brainops.rate_limits to brainops_worker;
