-- Who holds rights on a table. Tenants' rights are by column: Postgres lets whoever holds UPDATE, DELETE or TRUNCATE on a
-- whole table lock it against everybody else (LOCK TABLE). So tenants hold neither, and delete through
-- brainops.delete_rows.

-- Services are trusted not to lock tables, and keep DELETE. It also says from which tables tenants may delete:
-- brainops.delete_rows runs with the rights of brainops_service.
create or replace function brainops_internal.grant_to_clients(p_table regclass)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_columns text := (
    select string_agg(quote_ident(attname), ', ' order by attnum) from pg_catalog.pg_attribute
    where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = ''
  );
begin
  perform brainops_internal.revoke_strangers(p_table);
  execute format('revoke all on %s from brainops_tenant, brainops_service', p_table);
  execute format(
    'grant select, insert (%1$s), update (%1$s) on %2$s to brainops_tenant, brainops_service', v_columns, p_table
  );
  execute format('grant delete on %s to brainops_service', p_table);
  execute format(
    'grant select, insert, update, delete on %s to brainops_worker, brainops_admin, brainops_system', p_table
  );
end;
$$;

comment on function brainops_internal.grant_to_clients(regclass) is
  'Gives tenants and services SELECT, and INSERT and UPDATE on the columns that the table has now; services, workers and admins also DELETE. Revokes all other rights. Called by brainops_internal.guard_table.';

revoke execute on function brainops_internal.grant_to_clients(regclass) from public;
grant execute on function brainops_internal.grant_to_clients(regclass) to brainops_admin, brainops_system;

-- Default privileges of the database, such as those of Supabase, may give roles of other programs every right on each new
-- table. Row level security hides the rows from them, and stops neither TRUNCATE nor LOCK TABLE.
create or replace function brainops_internal.strangers(p_owner oid, p_acl aclitem[])
returns setof text
language sql
stable
set search_path = ''
as $$
  select distinct
    case a.grantee
      when 0 then 'public'
      else quote_ident(pg_catalog.pg_get_userbyid(a.grantee))
    end
  from pg_catalog.aclexplode(p_acl) as a
  where
    a.grantee <> p_owner
    and (
      a.grantee = 0
      or (
        pg_catalog.pg_get_userbyid(a.grantee) not in ('brainops_tenant', 'brainops_service', 'brainops_worker')
        and not pg_catalog.pg_has_role(a.grantee, 'brainops_admin', 'member')
        and not pg_catalog.pg_has_role(a.grantee, 'brainops_system', 'member')
      )
    );
$$;

comment on function brainops_internal.strangers(oid, aclitem[]) is
  'The roles in p_acl, quoted, that are neither the owner nor ours, nor members of brainops_admin or brainops_system; public among them.';

revoke execute on function brainops_internal.strangers(oid, aclitem[]) from public;
grant execute on function brainops_internal.strangers(oid, aclitem[]) to brainops_admin, brainops_system;

create or replace function brainops_internal.revoke_strangers(p_relation regclass)
returns setof text
language plpgsql
set search_path = ''
as $$
declare
  v_stranger text;
begin
  for v_stranger in
    select s from pg_catalog.pg_class as c cross join brainops_internal.strangers(c.relowner, c.relacl) as s where c.oid = p_relation
    union
    select s
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attacl is not null
    cross join brainops_internal.strangers(c.relowner, a.attacl) as s
    where c.oid = p_relation
  loop
    execute format('revoke all on %s from %s cascade', p_relation, v_stranger);
    return next v_stranger;
  end loop;
end;
$$;

comment on function brainops_internal.revoke_strangers(regclass) is
  'Revokes the rights on a table, view or sequence of all roles but its owner, ours, and members of brainops_admin or brainops_system. Returns those roles.';

revoke execute on function brainops_internal.revoke_strangers(regclass) from public;
grant execute on function brainops_internal.revoke_strangers(regclass) to brainops_admin, brainops_system;

create or replace function brainops_internal.revoke_strangers_everywhere(p_public_relations text[])
returns setof text
language plpgsql
set search_path = ''
as $$
declare
  v_object record;
begin
  for v_object in
    select 'schema' as kind, quote_ident(n.nspname) as name, s as stranger
    from pg_catalog.pg_namespace as n
    cross join brainops_internal.strangers(n.nspowner, n.nspacl) as s
    where n.nspname in ('brainops', 'brainops_internal')
    union all
    select 'routine', p.oid::regprocedure::text, s
    from pg_catalog.pg_proc as p
    inner join pg_catalog.pg_namespace as n on n.oid = p.pronamespace
    -- Without an ACL, everybody may execute it.
    cross join brainops_internal.strangers(p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))) as s
    where n.nspname in ('brainops', 'brainops_internal')
      and not exists (select from pg_catalog.pg_depend as d where d.objid = p.oid and d.deptype = 'e')
  loop
    execute format('revoke all on %s %s from %s cascade', v_object.kind, v_object.name, v_object.stranger);
    return next v_object.stranger;
  end loop;

  return query
    select s
    from pg_catalog.pg_class as c
    inner join pg_catalog.pg_namespace as n on n.oid = c.relnamespace
    cross join brainops_internal.revoke_strangers(c.oid) as s
    where c.relkind in ('r', 'p', 'v', 'S')
      and (n.nspname in ('brainops', 'brainops_internal') or (n.nspname = 'public' and c.relname = any (p_public_relations)));
end;
$$;

comment on function brainops_internal.revoke_strangers_everywhere(text[]) is
  'brainops_internal.revoke_strangers for everything in the schemas brainops and brainops_internal, and for our tables and views in public. Returns the roles, once per object. brainops migrate calls it each time.';

revoke execute on function brainops_internal.revoke_strangers_everywhere(text[]) from public;
