-- Which person texts with which number; the worker and Twilio's events write it.
select brainops.protect_table('public.sms_threads');

revoke all on public.sms_threads from brainops_tenant, brainops_service;
