-- Reasons of scores: an insert requests a rescore of the lead.
select brainops.protect_table('public.lead_score_events');

revoke insert, update on public.lead_score_events from brainops_tenant, brainops_service;
grant insert (id, tenant_id, lead_id, reason, points, half_life, occurred_at, source_key, created_at)
on public.lead_score_events
to brainops_tenant, brainops_service;

-- Append only. Only brainops_system changes rows: it moves them when leads are merged, and erases a person on request.
revoke update, delete
on public.lead_score_events
from brainops_tenant, brainops_service, brainops_worker, brainops_admin;

create or replace trigger a0_resolve_lead_id
before insert on public.lead_score_events
for each row
execute function brainops_internal.resolve_lead_id();

-- Rows that the scoring itself writes do not request another one.
create or replace trigger c0_after_lead_score_events
after insert on public.lead_score_events
referencing new table as inserted
for each statement
when (current_user <> 'brainops_system')
execute function brainops_internal.after_lead_score_events();
