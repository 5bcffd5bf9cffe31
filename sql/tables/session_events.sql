-- Only the engine writes it (brainops_internal.guard_sessions), and only admins read it: it names other sessions.
alter table brainops.session_events enable row level security;
alter table brainops.session_events force row level security;

drop policy if exists every_row on brainops.session_events;
create policy every_row on brainops.session_events
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant select on brainops.session_events to brainops_admin;
grant select, insert, delete on brainops.session_events to brainops_system;
