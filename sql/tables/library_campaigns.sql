revoke all on brainops.library_campaigns from public;
grant select, insert, update, delete on brainops.library_campaigns to brainops_admin, brainops_system;
