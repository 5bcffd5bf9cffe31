-- Tenants' own provider accounts. The triggers wake rows that waited for a credential.
select brainops.protect_table('public.provider_credentials');

-- Secrets are for workers only. A tenant sees which credentials it has, and may deactivate them (active = false).
revoke all on public.provider_credentials from brainops_tenant, brainops_service;
grant select (id, tenant_id, provider, name, hint, active, endpoint_token, created_at, updated_at)
on public.provider_credentials
to brainops_tenant, brainops_service;
grant update (active) on public.provider_credentials to brainops_tenant, brainops_service;

create or replace trigger z0_touch_updated_at
before update on public.provider_credentials
for each row
execute function brainops_internal.touch_updated_at();

create or replace trigger d0_wake_notifications
after insert or update on public.provider_credentials
for each row
when (new.provider = 'slack' and new.active)
execute function brainops_internal.wake_notifications();

create or replace trigger d1_wake_rows
after insert or update of active, sealed or delete on public.provider_credentials
for each row
execute function brainops_internal.after_credential_change();
