-- Disputes, in the last state that Stripe reported.
select brainops.protect_table('public.payment_disputes');

-- Only Stripe's events write it.
revoke insert, update, delete on public.payment_disputes from brainops_tenant, brainops_service;
