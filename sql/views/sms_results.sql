-- The most advanced status of each text.
drop view if exists brainops.sms_results;

create view brainops.sms_results
with (security_invoker = true)
as
  select distinct on (d.tenant_id, d.sms_id, d.provider_message_id)
    d.tenant_id,
    d.sms_id,
    d.provider_message_id,
    d.recipient,
    d.event as status,
    d.error_code,
    d.occurred_at
  from public.sms_deliveries as d
  order by d.tenant_id, d.sms_id, d.provider_message_id, brainops_internal.sms_status_rank(d.event) desc, d.occurred_at;

comment on view brainops.sms_results is
  'The most advanced status of each text, and the error that it came with (null: none). One row for each text and MessageSid; sms_id null: only the MessageSid is known.';

grant select
on brainops.sms_results
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
