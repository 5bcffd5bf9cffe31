-- Requests to confirm consent, written by the engine.
select brainops.protect_table('public.opt_in_requests');

-- Only consents create requests, and only people confirm them.
revoke insert, update, delete on public.opt_in_requests from brainops_tenant, brainops_service, brainops_worker;

create or replace trigger a0_resolve_lead_id
before insert on public.opt_in_requests
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();
