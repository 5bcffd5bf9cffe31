-- Which tenant a number of the platform's Twilio account belongs to.
select brainops.protect_table('public.sms_numbers');

-- Only admins write it: a tenant that claimed a number would get the replies to another tenant.
revoke insert, update, delete on public.sms_numbers from brainops_tenant, brainops_service;
revoke insert, update, delete on public.sms_numbers from brainops_worker;

create or replace trigger a2_check_sms_number
before insert or update of tenant_id, number on public.sms_numbers
for each row
execute function brainops_internal.check_sms_number();
