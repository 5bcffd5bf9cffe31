grant select on brainops.installation to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
grant select, insert, update, delete on brainops.installation to brainops_system;
