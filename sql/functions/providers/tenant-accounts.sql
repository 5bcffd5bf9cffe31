-- Tenants' own provider accounts, as workers and the HTTP server read them: sealed. A process that has
-- BRAINOPS_SECRET_KEY opens them (src/revenue/credentials/store.ts).
--
-- Compatibility: a contract between workers, servers and database. Until they restart, they call
-- brainops_internal.find_endpoint by the signature of their own release, and read the keys of the object that
-- brainops_internal.sealed_credential makes: keys may be added, but not removed or renamed.

-- Without a search_path, so that it is inlined.
create or replace function brainops_internal.sealed_credential(
  p_credential public.provider_credentials,
  p_key public.tenant_keys
)
returns jsonb
language sql
stable
as $$
  select
    pg_catalog.jsonb_build_object(
      'tenant_id',
      p_credential.tenant_id,
      'provider',
      p_credential.provider,
      'name',
      p_credential.name,
      'sealed',
      pg_catalog.encode(p_credential.sealed, 'base64'),
      'wrapped_key',
      pg_catalog.encode(p_key.wrapped_key, 'base64'),
      'secret_key_id',
      p_key.secret_key_id
    );
$$;

comment on function brainops_internal.sealed_credential(public.provider_credentials, public.tenant_keys) is
  'A credential and the tenant''s key that it is encrypted with, itself encrypted; sealed and wrapped_key in base64.';

revoke execute
on function brainops_internal.sealed_credential(public.provider_credentials, public.tenant_keys)
from public;
grant execute
on function brainops_internal.sealed_credential(public.provider_credentials, public.tenant_keys)
to brainops_worker, brainops_system;

-- Must be inlined into load queries: in SQL, stable, returning rows, without a search_path.
create or replace function brainops_internal.tenant_account(p_tenant_id uuid, p_provider text)
returns table (id uuid, endpoint_token text, sealed jsonb)
language sql
stable
rows 1
as $$
  select c.id, c.endpoint_token, brainops_internal.sealed_credential(c, k)
  from
    public.provider_credentials as c
    inner join public.tenant_keys as k on k.tenant_id operator(pg_catalog.=) c.tenant_id
  where
    c.tenant_id operator(pg_catalog.=) p_tenant_id
    and c.provider operator(pg_catalog.=) p_provider
    and c.name operator(pg_catalog.=) 'default'
    and c.active;
$$;

comment on function brainops_internal.tenant_account(uuid, text) is
  'The tenant''s own account with a provider that its rows go through; no row if they go through the platform''s account.';

revoke execute on function brainops_internal.tenant_account(uuid, text) from public;
grant execute on function brainops_internal.tenant_account(uuid, text) to brainops_worker, brainops_system;

-- Called before the tenant is known, by logins that see the rows of every tenant.
create or replace function brainops_internal.find_endpoint(p_provider text, p_token text)
returns jsonb
language plpgsql
stable
set search_path = ''
as $$
begin
  return (
    select brainops_internal.sealed_credential(c, k) || jsonb_build_object('active', c.active)
    from public.provider_credentials as c
    inner join public.tenant_keys as k on k.tenant_id = c.tenant_id
    where c.endpoint_token = p_token and c.provider = p_provider
  );
end;
$$;

comment on function brainops_internal.find_endpoint(text, text) is
  'The credential whose webhook endpoint has the token, in the form of brainops_internal.sealed_credential plus the key active; null for an unknown token.';

revoke execute on function brainops_internal.find_endpoint(text, text) from public;
grant execute on function brainops_internal.find_endpoint(text, text) to brainops_system;
