-- Legal frequency caps: everyone reads them, admins edit them.
grant select
on brainops.contact_caps
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
grant insert, update, delete on brainops.contact_caps to brainops_admin;
