-- Which Stripe object belongs to which payment request.
select brainops.protect_table('public.stripe_objects');

-- A tenant that could write it could claim another's payments.
revoke insert, update, delete on public.stripe_objects from brainops_tenant, brainops_service;
