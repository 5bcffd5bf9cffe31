select brainops.protect_table('public.sms_inbound');

-- Reports and words are the provider's to write, threads the worker's; and a number that a tenant
-- could claim for itself would bring it the replies to another.
revoke insert, update, delete on public.sms_inbound from brainops_tenant, brainops_service;
revoke insert, update, delete on public.sms_inbound from brainops_worker;

create or replace trigger a0_resolve_lead_id
before insert on public.sms_inbound
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();
