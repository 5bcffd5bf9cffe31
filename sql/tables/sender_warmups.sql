select brainops.protect_table('public.sender_warmups');

-- What protects a sender's name is not the tenant's to take away.
revoke insert, update, delete on public.sender_warmups from brainops_tenant, brainops_service, brainops_worker;
