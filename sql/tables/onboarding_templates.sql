-- A tenant's own onboarding steps.
select brainops.protect_table('public.onboarding_templates');

revoke insert, update on public.onboarding_templates from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    template,
    step_number,
    step_name,
    description,
    duration,
    subject,
    body,
    advance_on,
    remind,
    remind_before,
    escalate_after,
    created_at,
    updated_at
  ),
  update (
    id,
    tenant_id,
    template,
    step_number,
    step_name,
    description,
    duration,
    subject,
    body,
    advance_on,
    remind,
    remind_before,
    escalate_after,
    created_at,
    updated_at
  )
on public.onboarding_templates
to brainops_tenant, brainops_service;

create or replace trigger z0_touch_updated_at
before update on public.onboarding_templates
for each row
execute function brainops_internal.touch_updated_at();
