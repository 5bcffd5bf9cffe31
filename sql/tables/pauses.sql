-- Written by brainops.pause, brainops.resume and the engine. Tenants see a pause in their rows' last_error only.
alter table brainops.pauses enable row level security;
alter table brainops.pauses force row level security;
drop policy if exists every_row on brainops.pauses;
create policy every_row on brainops.pauses
for all
to brainops_admin, brainops_system
using (true)
with check (true);
grant select, insert, update, delete on brainops.pauses to brainops_admin, brainops_system;
