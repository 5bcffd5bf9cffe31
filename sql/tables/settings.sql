-- Admins may change settings, but not add new ones.
grant select, update on brainops.settings to brainops_admin;
grant select on brainops.settings to brainops_system;
