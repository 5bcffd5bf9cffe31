-- Which tenant an inserted row belongs to if it does not say so. Start at resolve_tenant, which has the rule; the
-- trigger functions after it apply the rule to each statement and row.

-- In this order: the current tenant, the tenant of a row that the new row refers to, the default tenant. Only services
-- get past the first step, because only they may look up other tenants' rows.
create or replace function brainops_internal.resolve_tenant(p_table regclass, p_row jsonb)
returns uuid
language plpgsql
stable
-- Reads the tenant of rows that the caller does not see.
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid;
  v_reference record;
begin
  if not brainops.may_name_tenant() then
    v_tenant_id := brainops.current_tenant_id();
    if v_tenant_id is not null then
      return v_tenant_id;
    end if;
  else
    -- Every foreign key that is the pair (tenant_id, x_id).
    for v_reference in
      select c.confrelid::regclass as parent, a.attname as column_name, r.attname as parent_column
      from pg_catalog.pg_constraint as c
      inner join pg_catalog.pg_attribute as t on t.attrelid = c.conrelid and t.attname = 'tenant_id' and t.attnum = any (c.conkey)
      cross join lateral unnest(c.conkey, c.confkey) as k (mine, theirs)
      inner join pg_catalog.pg_attribute as a on a.attrelid = c.conrelid and a.attnum = k.mine and a.attnum <> t.attnum
      inner join pg_catalog.pg_attribute as r on r.attrelid = c.confrelid and r.attnum = k.theirs and r.atttypid = 'uuid'::regtype
      where c.conrelid = p_table and c.contype = 'f' and cardinality(c.conkey) = 2
      order by c.conname
    loop
      execute format('select tenant_id from %s where %I = $1', v_reference.parent, v_reference.parent_column)
        into v_tenant_id
        using brainops_internal.uuid_or_null(p_row ->> v_reference.column_name);
      if v_tenant_id is not null then
        return v_tenant_id;
      end if;
    end loop;

    select id into v_tenant_id from public.tenants where is_default;
    if found then
      return v_tenant_id;
    end if;
  end if;

  raise exception 'tenant_id: the row for % names no tenant, and login "%" is not bound to one', p_table, session_user
    using errcode = 'OP001',
      hint = 'Give tenant_id. A member of brainops_service may also set app.tenant_id, refer to a row that has a tenant, or mark one tenant with is_default.';
end;
$$;

comment on function brainops_internal.resolve_tenant(regclass, jsonb) is
  'The tenant of a row about to be inserted into p_table: the current tenant, else (for services only) that of a row it refers to, else the default tenant. OP001: none of these exists.';

alter function brainops_internal.resolve_tenant(regclass, jsonb) owner to brainops_system;
revoke execute on function brainops_internal.resolve_tenant(regclass, jsonb) from public;
grant execute
on function brainops_internal.resolve_tenant(regclass, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- Looks the tenant up once per statement instead of once per row: the default of tenant_id reads this setting. A caller
-- that writes brainops.statement_tenant in between gains nothing, because the policy checks every row against the real
-- tenant.
create or replace function brainops_internal.remember_tenant()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform set_config('brainops.inserted_tenant', '', true);
  perform set_config('brainops.statement_tenant', coalesce(brainops.current_tenant_id()::text, ''), true);
  return null;
end;
$$;

comment on function brainops_internal.remember_tenant is
  'Trigger, before each insert statement: stores the current tenant in the setting brainops.statement_tenant, from which the default of tenant_id takes it.';

revoke execute on function brainops_internal.remember_tenant() from public;
grant execute on function brainops_internal.remember_tenant() to brainops_admin, brainops_system;

-- For rows that the default leaves without a tenant: those of a service or an admin that has not named one, and those
-- with an explicit null.
create or replace function brainops_internal.fill_tenant()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  new.tenant_id := coalesce(new.tenant_id, brainops_internal.resolve_tenant(tg_relid, to_jsonb(new)));
  return new;
end;
$$;

comment on function brainops_internal.fill_tenant is
  'Trigger, before the insert of a row without tenant_id: fills it in by brainops_internal.resolve_tenant. OP001: no tenant.';

alter function brainops_internal.fill_tenant() owner to brainops_system;
revoke execute on function brainops_internal.fill_tenant() from public;
grant execute on function brainops_internal.fill_tenant() to brainops_admin, brainops_system;

-- The policies let a service that names no tenant see the row that it inserted last; RETURNING needs that. The
-- trigger's condition limits it to services, because a worker without a tenant must not write anything.
create or replace function brainops_internal.show_inserted_row()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform set_config('brainops.inserted_tenant', new.tenant_id::text, true);
  return new;
end;
$$;

comment on function brainops_internal.show_inserted_row is
  'Trigger, before each row that a service inserts without naming a tenant: lets RETURNING see the row (brainops.current_tenant_id).';

revoke execute on function brainops_internal.show_inserted_row() from public;
grant execute on function brainops_internal.show_inserted_row() to brainops_admin, brainops_system;

-- Replaces a foreign key to tenants by one check per statement, as brainops_internal.after_job_insert does for job
-- tables. A check for each row took an eighth of the time of inserting an unsubscribe link. The counterpart, for a
-- tenant that is deleted, is brainops_internal.before_tenant_delete.
create or replace function brainops_internal.check_tenants()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- The lock keeps the tenants from being deleted until this transaction ends.
  if (select count(*) from (
    select from public.tenants where id in (select tenant_id from changed) for key share
  ) as t) <> (select count(distinct tenant_id) from changed) then
    raise exception 'tenant_id: a row of % names a tenant that does not exist', tg_relid::regclass
      using errcode = 'foreign_key_violation', column = 'tenant_id', hint = 'Give the id of a tenant: select id, slug from tenants.';
  end if;
  return null;
end;
$$;

comment on function brainops_internal.check_tenants is
  'Trigger, for tables without a foreign key to tenants: checks that the tenants of a statement''s rows exist. A tenant that has rows in such a table cannot be deleted. 23503: a tenant does not exist.';

alter function brainops_internal.check_tenants() owner to brainops_system;
revoke execute on function brainops_internal.check_tenants() from public;
