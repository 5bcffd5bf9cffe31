-- Job table: reminders of onboarding steps.
select
  brainops.define_job_table(
    'public.onboarding_reminders',
    p_task_identifier => 'onboarding_reminder__send',
    p_effect_is_idempotent => true, -- it inserts rows with idempotency keys
    p_channel => 'onboarding',
    p_gate => 'brainops_internal.gate_onboarding_reminder'
  );

revoke insert on public.onboarding_reminders from brainops_tenant, brainops_service;
