-- Time zones of phone numbers: everyone reads them, admins edit them.
grant select
on brainops.phone_zones
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
grant insert, update, delete on brainops.phone_zones to brainops_admin;
