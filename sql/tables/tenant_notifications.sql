-- Job table: messages to the tenant itself.
select
  brainops.define_job_table(
    'public.tenant_notifications',
    p_task_identifier => 'tenant_notification__send',
    p_effect_is_idempotent => true, -- after a crash, twice is better than not at all
    p_channel => 'notification',
    p_gate => 'brainops_internal.gate_tenant_notification',
    p_result_columns => array['sent_via', 'sent_at']
  );

revoke insert, update on public.tenant_notifications from brainops_tenant, brainops_service;
grant
  insert (
    id,
    tenant_id,
    subject,
    body,
    lead_id,
    scheduled_for,
    created_at,
    status,
    max_attempts,
    job_priority,
    idempotency_key
  ),
  update (subject, body, lead_id, scheduled_for, status, max_attempts, job_priority, idempotency_key)
on public.tenant_notifications
to brainops_tenant, brainops_service;

create or replace trigger a0_resolve_lead_id
before insert on public.tenant_notifications
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();
