-- Rows to lock. Only brainops_internal.lock_keys uses them, with the engine's rights: whoever may lock a row can make
-- others wait.
select brainops.protect_table('brainops.tenant_locks');

revoke all
on brainops.tenant_locks
from brainops_tenant, brainops_service, brainops_worker, brainops_admin;

grant select on brainops.tenant_locks to brainops_admin;
