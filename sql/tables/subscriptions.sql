-- Subscriptions, in the last state that Stripe reported.
select brainops.protect_table('public.subscriptions');

-- Only Stripe's events write it.
revoke insert, update, delete on public.subscriptions from brainops_tenant, brainops_service;
