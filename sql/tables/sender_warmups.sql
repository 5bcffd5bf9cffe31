-- Warm-up plans: tenants read them, admins write them.
select brainops.protect_table('public.sender_warmups');

-- Tenants may not modify limits that protect sender reputation.
revoke insert, update, delete on public.sender_warmups from brainops_tenant, brainops_service, brainops_worker;
