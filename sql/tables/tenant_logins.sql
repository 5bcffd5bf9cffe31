-- Only admins and the engine read it: brainops.current_tenant_id does so with the engine's rights.
alter table brainops.tenant_logins enable row level security;
alter table brainops.tenant_logins force row level security;

drop policy if exists every_row on brainops.tenant_logins;
create policy every_row on brainops.tenant_logins
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant select, insert, update, delete on brainops.tenant_logins to brainops_admin, brainops_system;
