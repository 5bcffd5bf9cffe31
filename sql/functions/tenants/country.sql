-- The tenant's country, by which phone numbers without a country code are read: those of leads and texts, and those in
-- consents and suppressions.

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

-- begin atomic binds the function above when this one is created, so that a tenant needs no right to its schema.
create or replace function brainops.tenant_country(p_tenant_id uuid)
returns text
language sql
stable
parallel safe
set search_path = ''
begin atomic
  select brainops_internal.tenant_country((select t.settings from public.tenants as t where t.id = p_tenant_id));
end;

comment on function brainops.tenant_country(uuid) is
  'The country by which a tenant''s phone numbers without a country code are read: settings.country in upper case (ISO 3166, two letters), US if it is missing or malformed, or if the caller may not see the tenant.';

revoke execute on function brainops.tenant_country(uuid) from public;
grant execute
on function brainops.tenant_country(uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
