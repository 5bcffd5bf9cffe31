-- Enrolments: the triggers pin a new one to its version, create its first touch, and carry out changes of status.

select brainops.protect_table('public.ai_nurture_campaigns');

-- Tenants choose who is enrolled and the status; only the engine writes how far an enrolment has come.
revoke insert, update on public.ai_nurture_campaigns from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    lead_id,
    campaign_type,
    status,
    next_touch_date,
    touch_count,
    created_at,
    name,
    is_active,
    exit_reason
  ),
  update (status, name, is_active, exit_reason)
on public.ai_nurture_campaigns
to brainops_tenant, brainops_service;

create or replace trigger a0_resolve_lead_id
before insert on public.ai_nurture_campaigns
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();

create or replace trigger b0_enter_campaign
before insert on public.ai_nurture_campaigns
for each row
execute function brainops_internal.enter_campaign();

create or replace trigger b1_before_enrolment_update
before update on public.ai_nurture_campaigns
for each row
when (old.status is distinct from new.status)
execute function brainops_internal.before_enrolment_update();

create or replace trigger c1_after_enrolment_update
after update on public.ai_nurture_campaigns
for each row
when (old.status is distinct from new.status and new.lead_id is not null)
execute function brainops_internal.after_enrolment_update();

create or replace trigger c2_after_enrolment_moves
after update of lead_id on public.ai_nurture_campaigns
for each row
when (old.lead_id is distinct from new.lead_id and new.lead_id is not null and new.status in ('active', 'paused'))
execute function brainops_internal.after_enrolment_moves();

create or replace trigger c0_after_enrolment_insert
after insert on public.ai_nurture_campaigns
referencing new table as inserted
for each statement
execute function brainops_internal.after_enrolment_insert();
