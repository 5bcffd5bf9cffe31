-- The tenant's country, by which phone numbers without a country code are read: of leads, of texts and of everyone whom a
-- consent or a suppression names.

create or replace function brainops_internal.tenant_country(p_settings jsonb)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case
      when p_settings ->> 'country' ~* '^[a-z]{2}$' then upper(p_settings ->> 'country')
      else 'US'
    end;
$$;

comment on function brainops_internal.tenant_country(jsonb) is
  'The country in tenants.settings: two letters of ISO 3166, in upper case; US if it is missing or malformed. For callers that have read the settings.';

revoke execute on function brainops_internal.tenant_country(jsonb) from public;
grant execute
on function brainops_internal.tenant_country(jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.tenant_country(p_tenant_id uuid)
returns text
language sql
stable
parallel safe
set search_path = ''
as $$
  select brainops_internal.tenant_country((select t.settings from public.tenants as t where t.id = p_tenant_id));
$$;

comment on function brainops_internal.tenant_country(uuid) is
  'The country of a tenant: two letters of ISO 3166, in upper case. US if its settings have none, or the caller may not see the tenant.';

revoke execute on function brainops_internal.tenant_country(uuid) from public;
grant execute
on function brainops_internal.tenant_country(uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
