-- Written by the engine (brainops_internal.record_breaker_result); brainops.breakers shows admins the tenants that fail.
-- Tenants see nothing of it: it would show them when others send.
alter table brainops.breaker_tenants enable row level security;
alter table brainops.breaker_tenants force row level security;
drop policy if exists every_row on brainops.breaker_tenants;
create policy every_row on brainops.breaker_tenants
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.breaker_tenants to brainops_admin, brainops_system;
