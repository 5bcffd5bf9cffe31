-- Job table: reminders of onboarding steps.
select
  brainops.define_job_table(
    'public.onboarding_reminders',
    p_task_identifier => 'onboarding_reminder__send',
    p_effect_is_idempotent => true, -- it inserts rows with idempotency keys
    p_channel => 'onboarding',
    p_gate => 'brainops_internal.gate_onboarding_reminder'
  );

-- The engine creates reminders; a client may only move, stop or repeat one.
revoke insert, update on public.onboarding_reminders from brainops_tenant, brainops_service;
grant update (workflow_id, step_id, kind, due_at, scheduled_for, status, max_attempts, job_priority, idempotency_key)
on public.onboarding_reminders
to brainops_tenant, brainops_service;
