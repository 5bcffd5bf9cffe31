-- Where a row says nothing of its tenant, the order is: who is asking, the row it refers to, the
-- default tenant. Only services come past the first: for them, and only for them, another row's
-- tenant may be looked up.
create or replace function brainops_internal.resolve_tenant(p_table regclass, p_row jsonb)
returns uuid
language plpgsql
stable
-- Reads the tenant of rows that the caller does not see yet.
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
    -- Each foreign key that is the pair (tenant_id, x_id).
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
      hint = 'Give tenant_id, or (as a member of brainops_service) set app.tenant_id or refer to a row that has a tenant, or mark one tenant with is_default.';
end;
$$;

comment on function brainops_internal.resolve_tenant(regclass, jsonb) is
  'The tenant of a row about to be inserted: the current one, else (services only) that of a row it refers to, else the default one. OP001 where there is none.';

alter function brainops_internal.resolve_tenant(regclass, jsonb) owner to brainops_system;
revoke execute on function brainops_internal.resolve_tenant(regclass, jsonb) from public;
grant execute
on function brainops_internal.resolve_tenant(regclass, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

-- Asked once for each statement, not once for each row: the answer is the default of tenant_id for
-- the statement's rows, whatever their number. A caller who writes
-- brainops.statement_tenant between the two gains nothing: the policy checks every row against the
-- real answer.
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

revoke execute on function brainops_internal.remember_tenant() from public;
grant execute on function brainops_internal.remember_tenant() to brainops_admin, brainops_system;

-- For rows whose default says nothing: a service (or an admin) that has not said whose they are, or
-- an explicit null.
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

alter function brainops_internal.fill_tenant() owner to brainops_system;
revoke execute on function brainops_internal.fill_tenant() from public;
grant execute on function brainops_internal.fill_tenant() to brainops_admin, brainops_system;

-- Makes the row visible to RETURNING. The trigger's condition limits it to services: a worker without a tenant must
-- write nothing.
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

revoke execute on function brainops_internal.show_inserted_row() from public;
grant execute on function brainops_internal.show_inserted_row() to brainops_admin, brainops_system;

-- What a foreign key to tenants holds, once for a statement of many rows, as job tables have it
-- (sql/0003): row by row it was an eighth of what a new link costs.
create or replace function brainops_internal.check_tenants()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
begin
  -- The lock keeps the tenants from being deleted meanwhile.
  if (select count(*) from (
    select from public.tenants where id in (select tenant_id from changed) for key share
  ) as t) <> (select count(distinct tenant_id) from changed) then
    raise exception 'tenant_id: % names a tenant that does not exist', tg_relid::regclass
      using errcode = 'foreign_key_violation', column = 'tenant_id', hint = 'select id, slug from tenants';
  end if;
  return null;
end;
$$;

comment on function brainops_internal.check_tenants is
  'For tables without a foreign key to tenants: each statement''s rows are of tenants that are there, and a tenant that has rows stays.';

alter function brainops_internal.check_tenants() owner to brainops_system;
revoke execute on function brainops_internal.check_tenants() from public;
