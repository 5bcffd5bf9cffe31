select brainops.protect_table('public.stripe_objects');

-- Reports are Stripe's to write.
revoke insert, update, delete on public.stripe_objects from brainops_tenant, brainops_service;
