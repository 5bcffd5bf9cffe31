-- Caps on the platform's accounts: admins write them, tenants see their own and the common one.
alter table brainops.sending_caps enable row level security;
alter table brainops.sending_caps force row level security;
drop policy if exists every_row on brainops.sending_caps;
create policy every_row on brainops.sending_caps
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.sending_caps to brainops_admin, brainops_system;

drop policy if exists own_tenant on brainops.sending_caps;
create policy own_tenant on brainops.sending_caps
for select
to brainops_tenant, brainops_worker, brainops_service
using (tenant_id is null or tenant_id = (select brainops.current_tenant_id()));

grant select on brainops.sending_caps to brainops_tenant, brainops_worker, brainops_service;
