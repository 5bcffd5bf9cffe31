-- The onboarding of a lead: the triggers keep the state machine, one workflow for each lead.
select brainops.protect_table('public.ai_onboarding_workflows');

-- Clients write what is to happen; only triggers write paused_at and alias_ids, and the times after the insert.
revoke insert, update on public.ai_onboarding_workflows from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    lead_id,
    status,
    current_step,
    total_steps,
    template,
    reason,
    started_at,
    completed_at,
    created_at
  ),
  update (status, reason)
on public.ai_onboarding_workflows
to brainops_tenant, brainops_service;

create or replace trigger a0_resolve_lead_id
before insert on public.ai_onboarding_workflows
for each row
execute function brainops_internal.resolve_lead_id();

create or replace trigger b0_before_onboarding_insert
before insert on public.ai_onboarding_workflows
for each row
execute function brainops_internal.before_onboarding_insert();

create or replace trigger b1_before_onboarding_update
before update on public.ai_onboarding_workflows
for each row
when (old.status is distinct from new.status)
execute function brainops_internal.before_onboarding_update();

create or replace trigger c0_after_onboarding_insert
after insert on public.ai_onboarding_workflows
for each row
when (new.total_steps = 0 and new.status = 'in_progress')
execute function brainops_internal.after_onboarding_insert();

create or replace trigger c1_after_onboarding_update
after update on public.ai_onboarding_workflows
for each row
when (old.status is distinct from new.status)
execute function brainops_internal.after_onboarding_update();
