-- Admins may change retention periods, not add any.
grant select, update on brainops.settings to brainops_admin;
grant select on brainops.settings to brainops_system;
