select brainops.protect_table('public.marketing_holds');

-- What protects a sender's name is not the tenant's to take away.
revoke insert, update, delete on public.marketing_holds from brainops_tenant, brainops_service, brainops_worker;
