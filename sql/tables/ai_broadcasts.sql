-- One mail to many people: the triggers check a broadcast, and let its recipients follow its status.
select brainops.protect_table('public.ai_broadcasts');

revoke insert, update on public.ai_broadcasts from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, name, audience, template, subject, body, metadata, status),
  update (name, audience, template, subject, body, metadata, status)
on public.ai_broadcasts
to brainops_tenant, brainops_service;

create or replace trigger a3_refuse_large_metadata
before insert or update of metadata on public.ai_broadcasts
for each row
when (pg_column_size(new.metadata || '{}') > 32768)
execute function brainops_internal.refuse_large_metadata();

create or replace trigger b0_check_broadcast
before insert or update on public.ai_broadcasts
for each row
execute function brainops_internal.check_broadcast();

create or replace trigger c0_after_broadcast_status
after update of status on public.ai_broadcasts
for each row
when (old.status <> new.status)
execute function brainops_internal.after_broadcast_status();
