-- What Twilio reported about each text.
select brainops.protect_table('public.sms_deliveries');

-- Only Twilio's events and the worker write reports.
revoke insert, update, delete on public.sms_deliveries from brainops_tenant, brainops_service;
