select brainops.protect_table('public.payment_disputes');

-- Reports are Stripe's to write.
revoke insert, update, delete on public.payment_disputes from brainops_tenant, brainops_service;
