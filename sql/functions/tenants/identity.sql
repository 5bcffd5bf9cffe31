create or replace function brainops.current_tenant_id()
returns uuid
language plpgsql
stable
parallel safe
-- Reads tenant_logins, which no tenant may read.
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid;
begin
  select tenant_id into v_tenant_id from brainops.tenant_logins where login = session_user;
  if found then
    return v_tenant_id;
  end if;
  if not pg_catalog.pg_has_role(session_user, 'brainops_service', 'member') then
    return null;
  end if;
  v_tenant_id := brainops_internal.uuid_or_null(current_setting('app.tenant_id', true));
  if v_tenant_id is not null then
    return v_tenant_id;
  end if;
  return coalesce(
    brainops_internal.jwt_tenant_id(),
    -- A service that names nobody sees the row it has just inserted: RETURNING needs that.
    case when brainops_internal.names_no_tenant() then brainops_internal.uuid_or_null(current_setting('brainops.inserted_tenant', true)) end
  );
end;
$$;

comment on function brainops.current_tenant_id is
  'The tenant that is asking, or null for nobody. In policies and queries always as (select brainops.current_tenant_id()): the bare call runs once for each row.';

alter function brainops.current_tenant_id() owner to brainops_system;
revoke execute on function brainops.current_tenant_id() from public;
grant execute
on function brainops.current_tenant_id()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- For the policies of brainops_service: such a login may name the tenant by a setting, so it may
-- as well name it in each row. Not for brainops_worker: a worker without a tenant is a mistake.
create or replace function brainops.may_name_tenant()
returns boolean
language sql
stable
parallel safe
security definer
set search_path = ''
as $$
  select
    brainops_internal.names_no_tenant()
    and pg_catalog.pg_has_role(session_user, 'brainops_service', 'member')
    and not exists (select from brainops.tenant_logins where login = session_user);
$$;

comment on function brainops.may_name_tenant is
  'Whether the caller may say in each row whose it is: a service login that has named no tenant by a setting.';

alter function brainops.may_name_tenant() owner to brainops_system;
revoke execute on function brainops.may_name_tenant() from public;
grant execute
on function brainops.may_name_tenant()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- A service that has named a tenant, even by a word that is no tenant, is never anybody else.
-- Inlined like the one above.
create or replace function brainops_internal.names_no_tenant()
returns boolean
language sql
stable
parallel safe
as $$
  select
    coalesce(pg_catalog.current_setting('app.tenant_id', true), '') operator(pg_catalog.=) ''
    and coalesce(pg_catalog.current_setting('request.jwt.claims', true), '') operator(pg_catalog.=) '';
$$;

comment on function brainops_internal.names_no_tenant is
  'Whether neither app.tenant_id nor request.jwt.claims says anything at all.';

revoke execute on function brainops_internal.names_no_tenant() from public;
grant execute
on function brainops_internal.names_no_tenant()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The claim tenant_id of a verified JWT as PostgREST and Supabase hand it over; null for none.
create or replace function brainops_internal.jwt_tenant_id()
returns uuid
language plpgsql
stable
parallel safe
set search_path = ''
as $$
begin
  return brainops_internal.uuid_or_null(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant_id'
  );
exception
  -- Not JSON, an escape that text cannot hold, or nested too deep.
  when data_exception or program_limit_exceeded then return null;
end;
$$;

comment on function brainops_internal.jwt_tenant_id is
  'The claim tenant_id in request.jwt.claims; null where there is none or it is no uuid.';

revoke execute on function brainops_internal.jwt_tenant_id() from public;
grant execute
on function brainops_internal.jwt_tenant_id()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
