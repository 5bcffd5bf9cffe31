select brainops.protect_table('public.subscriptions');

-- Reports are Stripe's to write.
revoke insert, update, delete on public.subscriptions from brainops_tenant, brainops_service;
