-- The job table of campaigns: one row for each step that an enrolment reaches.

select
  brainops.define_job_table(
    'public.ai_campaign_touches',
    p_task_identifier => 'campaign_touch__run',
    p_effect_is_idempotent => true, -- perform_touch performs a touch once
    p_channel => 'campaign',
    p_gate => 'brainops_internal.gate_campaign_touch',
    p_result_columns =>
      array[
        'step_key',
        'step_number',
        'version',
        'entrance',
        'due_at',
        'woken_at',
        'performed_at',
        'outcome',
        'next_key',
        'message_id',
        'template_version',
        'split_key',
        'variant'
      ],
    p_max_attempts => 10
  );

-- A touch keeps its step from happening again, so it is neither deleted nor moved to another enrolment.
revoke insert, update, delete on public.ai_campaign_touches from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    campaign_id,
    touch_type,
    scheduled_for,
    content_template,
    status,
    max_attempts,
    job_priority,
    idempotency_key,
    created_at
  ),
  update (scheduled_for, content_template, status, max_attempts, job_priority, idempotency_key)
on public.ai_campaign_touches
to brainops_tenant, brainops_service;

create or replace trigger a2_adopt_touch
before insert on public.ai_campaign_touches
for each row
when (new.step_key is null)
execute function brainops_internal.adopt_touch();

create or replace trigger b2_move_touch
before update of scheduled_for on public.ai_campaign_touches
for each row
when
  (
    old.scheduled_for is distinct from new.scheduled_for
    and new.performed_at is null
    and new.step_key is not null
    -- A retry, or the rescue of a dead worker's row, changes the status as well: the plan stays.
    and old.status = new.status
    and new.status in ('pending', 'awaiting_approval')
    -- The engine defers a touch without changing its plan.
    and current_user not in ('brainops_worker', 'brainops_system')
    and current_setting('brainops.spreading', true) is distinct from 'on'
  )
execute function brainops_internal.move_touch();

create or replace trigger b9_hold_sent_template
before update of template_version on public.ai_campaign_touches
for each row
when (new.template_version is not null and new.template_version is distinct from old.template_version)
execute function brainops_internal.hold_sent_template();

create or replace trigger d0_skip_cancelled_step
after update on public.ai_campaign_touches
for each row
when
  (
    old.status is distinct from new.status
    and new.status in ('cancelled', 'skipped', 'completed')
    and new.performed_at is null
    and new.step_key is not null
  )
execute function brainops_internal.skip_cancelled_step();
