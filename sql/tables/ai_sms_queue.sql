-- Texts to send, a job table. Its triggers check the row, convert the number to E.164, and settle a lost outcome as far
-- as it is known.
select
  brainops.define_job_table(
    'public.ai_sms_queue',
    p_task_identifier => 'sms__send',
    p_effect_is_idempotent => false, -- Twilio has no idempotency key
    p_channel => 'sms',
    p_gate => 'brainops_internal.gate_sms',
    p_provider => 'twilio',
    p_result_columns => array['sent_at', 'provider_message_id', 'segments', 'from_number']
  );

-- Not what the worker records about a run, nor what the engine records about a deferral.
revoke insert, update on public.ai_sms_queue from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    recipient,
    body,
    scheduled_for,
    status,
    metadata,
    created_at,
    lead_id,
    enrolment_id,
    touch_id,
    max_attempts,
    job_priority,
    idempotency_key
  ),
  update (
    recipient,
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
on public.ai_sms_queue
to brainops_tenant, brainops_service;

create or replace trigger a0_check_sms_row
before insert or update of recipient, body, metadata on public.ai_sms_queue
for each row
execute function brainops_internal.check_sms_row();

create or replace trigger a0_resolve_lead_id
before insert on public.ai_sms_queue
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();

create or replace trigger a2_read_national_number
before insert or update of recipient on public.ai_sms_queue
for each row
when (new.recipient !~ '^\+' and brainops_internal.uuid_or_null(new.recipient) is null)
execute function brainops_internal.read_national_number();

create or replace trigger a3_refuse_large_metadata
before insert or update of metadata on public.ai_sms_queue
for each row
when (pg_column_size(new.metadata || '{}') > 65536)
execute function brainops_internal.refuse_large_metadata();

create or replace trigger b2_forget_sms_run
before update of status on public.ai_sms_queue
for each row
when (new.status = 'pending' and old.status not in ('pending', 'processing', 'awaiting_approval'))
execute function brainops_internal.forget_sms_run();

create or replace trigger b2_keep_first_due
before update of scheduled_for, status on public.ai_sms_queue
for each row
when
  (
    old.is_marketing
    and new.status = 'pending'
    and (old.scheduled_for is distinct from new.scheduled_for or old.status not in ('pending', 'processing'))
  )
execute function brainops_internal.keep_first_due();

create or replace trigger b2_settle_sms_at_once
before update of status on public.ai_sms_queue
for each row
when (old.status = 'processing' and new.status = 'unconfirmed')
execute function brainops_internal.settle_sms_at_once();

create or replace trigger b2_unbegin_sms
before update of status on public.ai_sms_queue
for each row
when (old.status = 'processing' and new.status = 'pending' and new.text_sent is not null)
execute function brainops_internal.unbegin_sms();

create or replace trigger d0_after_touch_message
after update on public.ai_sms_queue
for each row
when
  (
    new.touch_id is not null
    and old.status is distinct from new.status
    and new.status in ('completed', 'skipped', 'failed', 'cancelled')
  )
execute function brainops_internal.after_touch_message();
