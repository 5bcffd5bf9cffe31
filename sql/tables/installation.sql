-- Only the engine writes it (brainops.announce_public_url). It belongs to no tenant, so it has no row level security.
grant select on brainops.installation to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
grant select, insert, update, delete on brainops.installation to brainops_system;
