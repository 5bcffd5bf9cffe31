select brainops.protect_table('public.tenant_keys');

-- What is secret is for workers alone; a tenant sees that there is one, and may switch it off.
revoke all on public.tenant_keys from brainops_tenant, brainops_service;
