-- Currencies: everyone reads them, admins write them.
alter table brainops.currencies enable row level security;
alter table brainops.currencies force row level security;

drop policy if exists everyone_reads on brainops.currencies;
create policy everyone_reads on brainops.currencies
for select
to brainops_tenant, brainops_worker, brainops_service
using (true);

drop policy if exists every_row on brainops.currencies;
create policy every_row on brainops.currencies
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant select on brainops.currencies to brainops_tenant, brainops_worker, brainops_service;
grant select, insert, update, delete on brainops.currencies to brainops_admin, brainops_system;
