select brainops.protect_table('public.sms_numbers');

-- Reports and words are the provider's to write, threads the worker's; and a number that a tenant
-- could claim for itself would bring it the replies to another.
revoke insert, update, delete on public.sms_numbers from brainops_tenant, brainops_service;
revoke insert, update, delete on public.sms_numbers from brainops_worker;

create or replace trigger a2_check_sms_number
before insert or update of tenant_id, number on public.sms_numbers
for each row
execute function brainops_internal.check_sms_number();
