create or replace function brainops.create_tenant(p_slug text, p_name text, p_time_zone text default 'UTC')
returns uuid
language sql
set search_path = ''
as $$
  insert into public.tenants (slug, name, time_zone) values (p_slug, p_name, p_time_zone) returning id;
$$;

comment on function brainops.create_tenant(text, text, text) is
  'A new tenant: slug (a-z, 0-9, -), name, IANA time zone. Returns its id.';

revoke execute on function brainops.create_tenant(text, text, text) from public;
grant execute on function brainops.create_tenant(text, text, text) to brainops_admin, brainops_system;

-- Runs with the caller's rights: to make a login one needs CREATEROLE, and we keep none in store.
create or replace function brainops.create_login(p_tenant_slug text, p_role_name text, p_password text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_tenant_id uuid := brainops_internal.tenant_id_of(p_tenant_slug);
begin
  if coalesce(length(p_password), 0) < 12 then
    raise exception 'password: has fewer than 12 characters'
      using errcode = 'OP005', hint = 'Give 12 or more, or a SCRAM-SHA-256 verifier (brainops tenant login makes one, so that no log sees the password).';
  end if;
  execute format('create role %I login password %L connection limit 20 in role brainops_tenant', p_role_name, p_password);
  execute format('alter role %I set statement_timeout = %L', p_role_name, '60s');
  execute format('alter role %I set idle_in_transaction_session_timeout = %L', p_role_name, '60s');
  insert into brainops.tenant_logins (login, tenant_id) values (p_role_name, v_tenant_id);
end;
$$;

comment on function brainops.create_login(text, text, text) is
  'A database login that is the tenant: sees and writes its rows alone, whatever it sets. The password may be a SCRAM-SHA-256 verifier. Needs CREATEROLE.';

revoke execute on function brainops.create_login(text, text, text) from public;
grant execute on function brainops.create_login(text, text, text) to brainops_admin, brainops_system;

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
      using errcode = 'OP007', hint = 'select slug, id from tenants';
  end if;
  return v_id;
end;
$$;

comment on function brainops_internal.tenant_id_of(text) is
  'The id of a tenant by its slug or id; OP007 where there is none that the caller may see.';

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
  -- The same words for another tenant and for none: who exists is nobody's business.
  select id into v_tenant_id from public.tenants
    where id = brainops.current_tenant_id() and (slug = p_tenant or id = brainops_internal.uuid_or_null(p_tenant));
  if not found then
    raise exception 'tenant: % is not yours', coalesce(quote_literal(p_tenant), 'null')
      using errcode = 'insufficient_privilege', hint = 'Give your own slug: select slug from tenants.';
  end if;
  return v_tenant_id;
end;
$$;

comment on function brainops_internal.tenant_of_caller(text) is
  'The tenant of this slug or id, where the caller is that tenant or an admin; refused otherwise.';

revoke execute on function brainops_internal.tenant_of_caller(text) from public;
grant execute on function brainops_internal.tenant_of_caller(text) to brainops_system;

create or replace function brainops_internal.may_act_for(p_tenant_id uuid)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    coalesce(p_tenant_id = brainops.current_tenant_id(), false)
    or brainops.may_name_tenant()
    or pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member');
$$;

comment on function brainops_internal.may_act_for(uuid) is
  'Whether the caller is this tenant, a service that may name it, or an admin. For functions with the engine''s rights.';

revoke execute on function brainops_internal.may_act_for(uuid) from public;
grant execute
on function brainops_internal.may_act_for(uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.after_tenant_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  perform brainops_internal.ship_campaigns(new.id);
  return null;
end;
$$;

alter function brainops_internal.after_tenant_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_tenant_insert() from public;

-- The other half of that foreign key.
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

alter function brainops_internal.before_tenant_delete() owner to brainops_system;
revoke execute on function brainops_internal.before_tenant_delete() from public;
