-- Suppressed addresses. The trigger stores them in the form that messages use.
select brainops.protect_table('public.contact_suppressions');

revoke insert, update on public.contact_suppressions from brainops_tenant, brainops_service;
grant
  insert (id, tenant_id, channel, address, reason, source, created_at, expires_at),
  update (id, tenant_id, channel, address, reason, source, created_at, expires_at)
on public.contact_suppressions
to brainops_tenant, brainops_service;

create or replace trigger a2_keep_contact_address
before insert or update of address, channel on public.contact_suppressions
for each row
when (new.channel = 'sms' and new.address !~ '^\+[1-9][0-9]{6,14}$' or new.address ~ '^[[:space:]]|[[:space:]]$')
execute function brainops_internal.keep_contact_address();

create or replace trigger b0_keep_persons_stop
before insert or update or delete on public.contact_suppressions
for each row
execute function brainops_internal.keep_persons_stop();
