-- Campaigns that each new tenant gets; for admins to extend.

revoke all on brainops.library_campaigns from public;
grant select, insert, update, delete on brainops.library_campaigns to brainops_admin, brainops_system;
