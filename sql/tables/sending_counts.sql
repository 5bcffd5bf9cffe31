-- Counts of messages, written by brainops_internal.reserve_cap_slots with the engine's rights.
select brainops.protect_table('brainops.sending_counts');

-- Tenants may not modify what protects the platform's accounts.
revoke insert, update, delete on brainops.sending_counts from brainops_tenant, brainops_service, brainops_worker;

-- Tenants that are older than the table.
select brainops_internal.add_sending_counts(id)
from public.tenants;
