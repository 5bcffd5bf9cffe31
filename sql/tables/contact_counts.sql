-- Hourly slots, written by brainops_internal.reserve_hourly_slots with the engine's rights.
select brainops.protect_table('brainops.contact_counts');

-- Tenants may not modify limits that protect sender reputation.
revoke insert, update, delete on brainops.contact_counts from brainops_tenant, brainops_service, brainops_worker;
