-- Steps of an onboarding: the triggers keep the state machine, and queue mails and reminders.
select brainops.protect_table('public.ai_onboarding_steps');

-- Clients write what is to happen; only triggers write email_id and problem.
revoke insert, update on public.ai_onboarding_steps from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    workflow_id,
    step_number,
    step_name,
    description,
    status,
    due_at,
    started_at,
    completed_at,
    duration,
    subject,
    body,
    advance_on,
    remind,
    remind_before,
    escalate_after,
    created_at
  ),
  update (description, status, due_at, subject, body, advance_on, remind, remind_before, escalate_after)
on public.ai_onboarding_steps
to brainops_tenant, brainops_service;

create or replace trigger a0_resolve_onboarding_workflow
before insert on public.ai_onboarding_steps
for each row
execute function brainops_internal.resolve_onboarding_workflow();

create or replace trigger b0_before_onboarding_step_insert
before insert on public.ai_onboarding_steps
for each row
execute function brainops_internal.before_onboarding_step_insert();

create or replace trigger b1_before_onboarding_step_update
before update on public.ai_onboarding_steps
for each row
execute function brainops_internal.before_onboarding_step_update();

create or replace trigger c0_after_onboarding_step
after insert or update on public.ai_onboarding_steps
for each row
execute function brainops_internal.after_onboarding_step();

create or replace trigger c1_after_onboarding_step_delete
after delete on public.ai_onboarding_steps
for each row
execute function brainops_internal.after_onboarding_step_delete();
