-- Events of leads: each insert feeds scores, campaigns and onboarding, in this order.
select brainops.protect_table('public.lead_events');

revoke insert, update on public.lead_events from brainops_tenant, brainops_service;
grant insert (id, tenant_id, lead_id, event, channel, occurred_at, source_key, metadata, created_at)
on public.lead_events
to brainops_tenant, brainops_service;

-- Append only. Only brainops_system changes rows: it moves them when leads are merged, and erases a person on request.
revoke update, delete on public.lead_events from brainops_tenant, brainops_service, brainops_worker, brainops_admin;

create or replace trigger a0_resolve_lead_id
before insert on public.lead_events
for each row
execute function brainops_internal.resolve_lead_id();

create or replace trigger c0_after_lead_events
after insert on public.lead_events
referencing new table as inserted
for each statement
execute function brainops_internal.after_lead_events();

create or replace trigger d0_after_lead_events_campaigns
after insert on public.lead_events
referencing new table as inserted
for each statement
execute function brainops_internal.after_lead_events_campaigns();

create or replace trigger d1_after_lead_events_onboarding
after insert on public.lead_events
referencing new table as inserted
for each statement
execute function brainops_internal.after_lead_events_onboarding();
