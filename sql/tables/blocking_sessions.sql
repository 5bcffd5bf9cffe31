-- Working memory of brainops_internal.guard_sessions.
grant select on brainops.blocking_sessions to brainops_admin;
grant select, insert, update, delete on brainops.blocking_sessions to brainops_system;
