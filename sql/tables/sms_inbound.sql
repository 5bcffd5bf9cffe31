-- Texts that people sent to us.
select brainops.protect_table('public.sms_inbound');

-- Only Twilio's events, applied by brainops_system, write what people texted.
revoke insert, update, delete on public.sms_inbound from brainops_tenant, brainops_service;
revoke insert, update, delete on public.sms_inbound from brainops_worker;

create or replace trigger a0_resolve_lead_id
before insert on public.sms_inbound
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();
