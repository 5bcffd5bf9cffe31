-- The counterpart of worker_processes' advisory locks on the built-in Postgres; the same rights.
alter table brainops.embedded_connections enable row level security;
alter table brainops.embedded_connections force row level security;
drop policy if exists every_row on brainops.embedded_connections;
create policy every_row on brainops.embedded_connections
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.embedded_connections to brainops_system;

grant select on brainops.embedded_connections to brainops_admin;
