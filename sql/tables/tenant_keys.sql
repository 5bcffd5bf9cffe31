-- The tenants' keys for their credentials. Guarded like every tenant table, and closed to tenants.
select brainops.protect_table('public.tenant_keys');

-- Only workers and the engine need the keys.
revoke all on public.tenant_keys from brainops_tenant, brainops_service;
