select brainops.protect_table('public.sms_deliveries');

-- Reports and words are the provider's to write, threads the worker's; and a number that a tenant
-- could claim for itself would bring it the replies to another.
revoke insert, update, delete on public.sms_deliveries from brainops_tenant, brainops_service;
