-- Holds on marketing: tenants read them, admins and the engine write them.
select brainops.protect_table('public.marketing_holds');

-- Tenants may not modify limits that protect sender reputation.
revoke insert, update, delete on public.marketing_holds from brainops_tenant, brainops_service, brainops_worker;
