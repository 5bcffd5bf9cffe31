-- Tenants, and who may act for a tenant. Start at brainops.create_tenant.

create or replace function brainops.create_tenant(p_slug text, p_name text, p_time_zone text default 'UTC')
returns uuid
language sql
set search_path = ''
as $$
  insert into public.tenants (slug, name, time_zone) values (p_slug, p_name, p_time_zone) returning id;
$$;

comment on function brainops.create_tenant(text, text, text) is
  'Creates a tenant, with the library''s campaigns as drafts, and returns its id. p_slug: a-z, 0-9 and -, at most 63 characters, unique. p_name: 1 to 200 characters. p_time_zone: IANA name, such as America/Denver.';

revoke execute on function brainops.create_tenant(text, text, text) from public;
grant execute on function brainops.create_tenant(text, text, text) to brainops_admin, brainops_system;

create or replace function brainops_internal.tenant_id_of(p_tenant text)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_id uuid;
begin
  select id into v_id from public.tenants where slug = p_tenant or id = brainops_internal.uuid_or_null(p_tenant);
  if not found then
    raise exception 'tenant: % is neither the slug nor the id of a tenant', quote_literal(p_tenant)
      using errcode = 'OP007', hint = 'To list the tenants: select slug, id from tenants.';
  end if;
  return v_id;
end;
$$;

comment on function brainops_internal.tenant_id_of(text) is
  'The id of a tenant, by its slug or id. OP007: it does not exist, or the caller may not see it.';

revoke execute on function brainops_internal.tenant_id_of(text) from public;
grant execute
on function brainops_internal.tenant_id_of(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.tenant_of_caller(p_tenant text)
returns uuid
language plpgsql
stable
set search_path = ''
as $$
declare
  v_tenant_id uuid;
begin
  if pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member') then
    return brainops_internal.tenant_id_of(p_tenant);
  end if;
  -- The same message whether the tenant exists or not, so that it does not reveal which tenants exist.
  select id into v_tenant_id from public.tenants
    where id = brainops.current_tenant_id() and (slug = p_tenant or id = brainops_internal.uuid_or_null(p_tenant));
  if not found then
    raise exception 'tenant: % is not your tenant', coalesce(quote_literal(p_tenant), 'null')
      using errcode = 'insufficient_privilege', hint = 'Give the slug of your own tenant: select slug from tenants.';
  end if;
  return v_tenant_id;
end;
$$;

comment on function brainops_internal.tenant_of_caller(text) is
  'The id of a tenant, by its slug or id, if the caller is that tenant or an admin. 42501: it is not the caller''s tenant. OP007 for admins: it does not exist.';

revoke execute on function brainops_internal.tenant_of_caller(text) from public;
grant execute on function brainops_internal.tenant_of_caller(text) to brainops_system;

-- PL/pgSQL, because it is called for single rows: as an SQL function, which Postgres cannot inline here, it took three
-- times as long.
create or replace function brainops_internal.may_act_for(p_tenant_id uuid)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce(p_tenant_id = brainops.current_tenant_id(), false)
    or brainops.may_name_tenant()
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
end;
$$;

comment on function brainops_internal.may_act_for(uuid) is
  'True if the caller is this tenant, a service that may name it, or an admin. For functions that run with the engine''s rights.';

revoke execute on function brainops_internal.may_act_for(uuid) from public;
grant execute
on function brainops_internal.may_act_for(uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Triggers run before row level security checks the row, and theirs run with the engine's rights: what they read, lock or
-- raise for a row of another tenant would show what that tenant has.
create or replace function brainops_internal.may_write_for(p_tenant_id uuid)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return brainops_internal.may_act_for(p_tenant_id) or pg_catalog.pg_has_role(session_user, 'brainops_system', 'member');
end;
$$;

comment on function brainops_internal.may_write_for(uuid) is
  'True if rows of this tenant may come from the caller: brainops_internal.may_act_for, or a login of the engine. For triggers, which run before row level security refuses the others.';

revoke execute on function brainops_internal.may_write_for(uuid) from public;
grant execute on function brainops_internal.may_write_for(uuid) to brainops_system;

create or replace function brainops_internal.after_tenant_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops_internal.ship_campaigns(new.id);
  perform brainops_internal.add_sending_counts(new.id);
  return null;
end;
$$;

comment on function brainops_internal.after_tenant_insert is
  'Trigger: gives a new tenant the campaigns and texts of the library, as drafts.';

alter function brainops_internal.after_tenant_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_tenant_insert() from public;

-- Job tables, and tables with the trigger check_tenants, have no foreign key to tenants. This trigger does what such a
-- key would do when the referenced tenant is deleted.
create or replace function brainops_internal.before_tenant_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_relation regclass;
  v_found boolean;
begin
  for v_relation in
    select j.relation::regclass from brainops.job_tables as j
    union
    select t.tgrelid::regclass from pg_catalog.pg_trigger as t where t.tgfoid = 'brainops_internal.check_tenants'::regproc
  loop
    execute format('select exists (select from %s where tenant_id = $1)', v_relation) into v_found using old.id;
    if v_found then
      raise exception 'tenant % still has rows in %', old.slug, v_relation
        using errcode = 'foreign_key_violation', hint = 'Suspend the tenant instead, or delete its rows first.';
    end if;
  end loop;
  return old;
end;
$$;

comment on function brainops_internal.before_tenant_delete is
  'Trigger: refuses to delete a tenant that has rows in a table without a foreign key to tenants (23503).';

alter function brainops_internal.before_tenant_delete() owner to brainops_system;
revoke execute on function brainops_internal.before_tenant_delete() from public;
