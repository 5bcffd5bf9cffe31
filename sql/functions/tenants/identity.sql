-- Which tenant is asking. Start at brainops.current_tenant_id; the policies of every table with a tenant_id call it.
--
-- A login that is bound to a tenant (brainops.tenant_logins) is always that tenant, whatever it sets. A member of
-- brainops_service is the tenant that it names: by app.tenant_id, else by the claim tenant_id in request.jwt.claims.
-- Any other login has no tenant.

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
    -- A service that names no tenant sees the row that it has just inserted: RETURNING needs that.
    case when brainops_internal.names_no_tenant() then brainops_internal.uuid_or_null(current_setting('brainops.inserted_tenant', true)) end
  );
end;
$$;

comment on function brainops.current_tenant_id is
  'The id of the caller''s tenant; null if it has none. In policies and queries write (select brainops.current_tenant_id()): the bare call runs once per row.';

alter function brainops.current_tenant_id() owner to brainops_system;
revoke execute on function brainops.current_tenant_id() from public;
grant execute
on function brainops.current_tenant_id()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- For the policies of brainops_service: a service may name its tenant by a setting, so it may as well name it in each
-- row. Not for brainops_worker: a worker without a tenant is a mistake.
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
  'True if the caller may name the tenant in each row: a member of brainops_service that is not bound to a tenant and has not named one by a setting. For policies.';

alter function brainops.may_name_tenant() owner to brainops_system;
revoke execute on function brainops.may_name_tenant() from public;
grant execute
on function brainops.may_name_tenant()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- A service that has named a tenant, even by a value that is not a tenant's id, is not given another one. Without a
-- search_path of its own, so that Postgres inlines it.
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
  'True if neither app.tenant_id nor request.jwt.claims is set, or both are empty.';

revoke execute on function brainops_internal.names_no_tenant() from public;
grant execute
on function brainops_internal.names_no_tenant()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- PostgREST and Supabase store the claims of a verified JWT in request.jwt.claims, as JSON.
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
  -- The setting is not JSON, contains an escape that text cannot hold, or is nested too deeply.
  when data_exception or program_limit_exceeded then return null;
end;
$$;

comment on function brainops_internal.jwt_tenant_id is
  'The claim tenant_id in request.jwt.claims; null if it is missing or not a uuid.';

revoke execute on function brainops_internal.jwt_tenant_id() from public;
grant execute
on function brainops_internal.jwt_tenant_id()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
