-- Workers register themselves, with the rights of brainops_system. Admins read the view brainops.workers.
alter table brainops.worker_processes enable row level security;
alter table brainops.worker_processes force row level security;
drop policy if exists every_row on brainops.worker_processes;
create policy every_row on brainops.worker_processes
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.worker_processes to brainops_system;

grant select on brainops.worker_processes to brainops_admin;
