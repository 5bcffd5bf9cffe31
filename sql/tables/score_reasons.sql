-- Points of facts and events. Admins may edit them; tenants may read them.
revoke all on brainops.score_reasons from public;
grant select on brainops.score_reasons to brainops_tenant, brainops_worker, brainops_service;
grant select, insert, update, delete on brainops.score_reasons to brainops_admin, brainops_system;
