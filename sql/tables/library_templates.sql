-- Texts that each new tenant gets; for admins to extend.

revoke all on brainops.library_templates from public;
grant select, insert, update, delete on brainops.library_templates to brainops_admin, brainops_system;
