-- What Postgres lets everybody do in any database, and tenants must not: writing outside all tables, and locking.

create or replace function brainops_internal.open_server_rights()
returns table (object text, kind text)
language sql
stable
set search_path = ''
as $$
  select p.oid::regprocedure::text, 'function'
  from pg_catalog.pg_proc as p
  where
    p.pronamespace = 'pg_catalog'::regnamespace
    -- Large objects fill the disk without a limit, and are in no table; pg_logical_emit_message fills the WAL.
    and p.proname in (
      'lo_creat',
      'lo_create',
      'lo_from_bytea',
      'lo_put',
      'lowrite',
      'lo_truncate',
      'lo_truncate64',
      'lo_import',
      'pg_logical_emit_message'
    )
    and pg_catalog.has_function_privilege('brainops_tenant', p.oid, 'execute')
  union all
  -- UPDATE on this view sets parameters, as SET does, but it also allows LOCK TABLE against all who read it.
  select 'pg_catalog.pg_settings', 'table'
  where pg_catalog.has_table_privilege('brainops_tenant', 'pg_catalog.pg_settings', 'update')
  order by 1;
$$;

comment on function brainops_internal.open_server_rights is
  'Objects of Postgres itself that tenants should have no right to write with, and still have. Empty after brainops_internal.close_server_rights by a superuser.';

revoke execute on function brainops_internal.open_server_rights() from public;
grant execute on function brainops_internal.open_server_rights() to brainops_admin, brainops_system;

create or replace function brainops_internal.close_server_rights()
returns setof text
language plpgsql
set search_path = ''
-- Without the right to revoke, Postgres warns for each of them.
set client_min_messages = 'error'
as $$
declare
  v_right record;
begin
  for v_right in select * from brainops_internal.open_server_rights()
  loop
    begin
      execute case v_right.kind
        when 'function' then format('revoke execute on function %s from public', v_right.object)
        else format('revoke update on %s from public', v_right.object)
      end;
    exception
      when insufficient_privilege then null;
    end;
  end loop;
  return query select o.object from brainops_internal.open_server_rights() as o;
end;
$$;

comment on function brainops_internal.close_server_rights is
  'Revokes from everybody, in this database, the rights that brainops_internal.open_server_rights lists, if the caller is a superuser; returns those that remain. Called by brainops migrate.';

revoke execute on function brainops_internal.close_server_rights() from public;
