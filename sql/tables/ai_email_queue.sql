-- Job table: one mail per row. Recipients of a broadcast are claimed and sent in bulk.
select
  brainops.define_job_table(
    'public.ai_email_queue',
    p_task_identifier => 'email__send',
    p_effect_is_idempotent => false, -- SendGrid has no idempotency key
    p_channel => 'email',
    p_gate => 'brainops_internal.gate_email',
    p_provider => 'sendgrid',
    p_result_columns => array['sent_at', 'provider_message_id'],
    p_bulk_column => 'broadcast_id'
  );

-- A recipient never changes its broadcast.
revoke insert, update on public.ai_email_queue from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    recipient,
    subject,
    body,
    scheduled_for,
    status,
    metadata,
    created_at,
    lead_id,
    enrolment_id,
    touch_id,
    broadcast_id,
    max_attempts,
    job_priority,
    idempotency_key
  ),
  update (
    recipient,
    subject,
    body,
    scheduled_for,
    status,
    metadata,
    lead_id,
    enrolment_id,
    touch_id,
    max_attempts,
    job_priority,
    idempotency_key
  )
on public.ai_email_queue
to brainops_tenant, brainops_service;

create or replace trigger a0_check_email_row
before insert or update of recipient, subject, body, metadata on public.ai_email_queue
for each row
execute function brainops_internal.check_email_row();

create or replace trigger a0_resolve_lead_id
before insert on public.ai_email_queue
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();

-- Fires after the tenant is filled in (a1), and before the engine reads the status (b0).
create or replace trigger a2_before_broadcast_recipient
before insert on public.ai_email_queue
for each row
when (new.broadcast_id is not null)
execute function brainops_internal.before_broadcast_recipient();

-- The condition spares nearly all rows the function. "|| '{}'" decompresses the value, so that its size in memory is
-- measured.
create or replace trigger a3_refuse_large_metadata
before insert or update of metadata on public.ai_email_queue
for each row
when (pg_column_size(new.metadata || '{}') > 32768)
execute function brainops_internal.refuse_large_metadata();

create or replace trigger b2_keep_first_due
before update of scheduled_for, status on public.ai_email_queue
for each row
when
  (
    old.is_marketing
    and new.status = 'pending'
    and (old.scheduled_for is distinct from new.scheduled_for or old.status not in ('pending', 'processing'))
  )
execute function brainops_internal.keep_first_due();

create or replace trigger b3_before_broadcast_recipient
before update of status on public.ai_email_queue
for each row
when (new.broadcast_id is not null and new.status = 'pending' and old.status not in ('pending', 'awaiting_approval'))
execute function brainops_internal.before_broadcast_recipient();

create or replace trigger d0_after_touch_message
after update on public.ai_email_queue
for each row
when
  (
    new.touch_id is not null
    and old.status is distinct from new.status
    and new.status in ('completed', 'skipped', 'failed', 'cancelled')
  )
execute function brainops_internal.after_touch_message();

create or replace trigger d1_after_onboarding_mail
after update on public.ai_email_queue
for each row
when (old.status is distinct from new.status and new.idempotency_key like 'onboarding:%')
execute function brainops_internal.after_onboarding_mail();
