-- Written by the engine; admins may reset a breaker or change its threshold and delays.
alter table brainops.circuit_breakers enable row level security;
alter table brainops.circuit_breakers force row level security;
drop policy if exists every_row on brainops.circuit_breakers;
create policy every_row on brainops.circuit_breakers
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.circuit_breakers to brainops_admin, brainops_system;
