-- Legal contact hours: everyone reads them, admins edit them.
grant select
on brainops.contact_windows
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
grant insert, update, delete on brainops.contact_windows to brainops_admin;
