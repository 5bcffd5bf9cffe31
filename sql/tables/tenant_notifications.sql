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

create or replace trigger a0_resolve_lead_id
before insert on public.tenant_notifications
for each row
when (new.lead_id is not null)
execute function brainops_internal.resolve_lead_id();
