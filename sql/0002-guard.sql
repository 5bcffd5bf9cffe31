-- The guard of every tenant table, as one function that also takes tables which exist already.
--
-- It closes the holes that policies alone leave open: forced RLS (the owner is bound too),
-- policies that name their roles, foreign keys by the pair (tenant_id, x_id), unique keys that
-- begin with tenant_id, no TRUNCATE, REFERENCES or TRIGGER for tenants. test/sql/guard.test.ts
-- reads the same rules back from the catalog.
set local lock_timeout = '2s';

-- Where a row says nothing of its tenant, the order is: who is asking, the row it refers to, the
-- default tenant. Only services come past the first: for them, and only for them, another row's
-- tenant may be looked up.
create function brainops.resolve_tenant(p_table regclass, p_row jsonb)
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
        using brainops.uuid_or_null(p_row ->> v_reference.column_name);
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

comment on function brainops.resolve_tenant(regclass, jsonb) is
  'The tenant of a row about to be inserted: the current one, else (services only) that of a row it refers to, else the default one. OP001 where there is none.';

alter function brainops.resolve_tenant(regclass, jsonb) owner to brainops_system;
revoke execute on function brainops.resolve_tenant(regclass, jsonb) from public;
grant execute
on function brainops.resolve_tenant(regclass, jsonb)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Asked once for each statement, not once for each row: the answer is the default of tenant_id for
-- the statement's rows, whatever their number. A caller who writes
-- brainops.statement_tenant between the two gains nothing: the policy checks every row against the
-- real answer.
create function brainops.remember_tenant()
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

-- For rows whose default says nothing: a service (or an admin) that has not said whose they are, or
-- an explicit null.
create function brainops.fill_tenant()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.tenant_id := coalesce(new.tenant_id, brainops.resolve_tenant(tg_relid, to_jsonb(new)));
  -- Makes the row visible to RETURNING. Not for a worker: without a tenant it must write nothing.
  if pg_catalog.pg_has_role(current_user, 'brainops_service', 'member') then
    perform set_config('brainops.inserted_tenant', new.tenant_id::text, true);
  end if;
  return new;
end;
$$;

create function brainops.touch_updated_at()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  new.updated_at := brainops.now();
  return new;
end;
$$;

-- What stands between the table and the guard, as sentences; empty when nothing does.
create function brainops.guard_obstacles(p_table regclass)
returns setof text
language sql
stable
set search_path = ''
as $$
  select 'it is no ordinary or partitioned table'
  where not exists (select from pg_catalog.pg_class where oid = p_table and relkind in ('r', 'p'))
  union all
  select 'it has no column tenant_id uuid'
  where
    not exists (
      select
      from pg_catalog.pg_attribute
      where attrelid = p_table and attname = 'tenant_id' and atttypid = 'uuid'::regtype and not attisdropped
    )
  union all
  select
    format('unique key %s does not begin with tenant_id, so it tells tenants of each other', i.indexrelid::regclass)
  from
    pg_catalog.pg_index as i
    -- No attribute where the key begins with an expression.
    left join pg_catalog.pg_attribute as a
      on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
  where
    i.indrelid = p_table
    and (i.indisunique or i.indisexclusion)
    and a.attname is distinct from 'tenant_id'
    and not (i.indisprimary and i.indnkeyatts = 1 and a.atttypid = 'uuid'::regtype)
  union all
  select
    format('policy %I is for every role and adds its rows to those of the guard; drop it or name its roles', polname)
  from pg_catalog.pg_policy
  where polrelid = p_table and polpermissive and 0 = any (polroles)
  union all
  select
    format(
      'foreign key %s to %s is not the pair (tenant_id, …), so rows can point into another tenant',
      c.conname,
      c.confrelid::regclass
    )
  from pg_catalog.pg_constraint as c
  where
    c.conrelid = p_table
    and c.contype = 'f'
    and c.confrelid <> 'public.tenants'::regclass
    and exists (
      select
      from pg_catalog.pg_attribute
      where attrelid = c.confrelid and attname = 'tenant_id' and not attisdropped
    )
    and not exists (
      select
      from pg_catalog.pg_attribute
      where attrelid = p_table and attname = 'tenant_id' and attnum = any (c.conkey)
    );
$$;

comment on function brainops.guard_obstacles(regclass) is
  'Why protect_table would refuse the table, one sentence each.';

-- p_reference_tenants false leaves the foreign key to tenants out: job tables check the tenants of a
-- whole statement at once instead (sql/0003, after_job_insert).
create function brainops.guard_table(p_table regclass, p_reference_tenants boolean)
returns void
language plpgsql
set search_path = ''
-- "policy … does not exist, skipping" helps nobody.
set client_min_messages = 'warning'
as $$
declare
  v_obstacles text;
  v_part regclass;
begin
  select string_agg(obstacle, '; ') into v_obstacles from brainops.guard_obstacles(p_table) as obstacle;
  if v_obstacles is not null then
    raise exception 'cannot protect %: %', p_table, v_obstacles
      using errcode = 'OP008', hint = 'Change the table as the message says, then call brainops.protect_table again.';
  end if;

  begin
    execute format('alter table %s alter column tenant_id set not null', p_table);
  exception
    when not_null_violation then
      raise exception 'cannot protect %: it has rows without a tenant_id', p_table
        using errcode = 'OP008', hint = format('update %s set tenant_id = … where tenant_id is null', p_table);
  end;

  if p_reference_tenants and not exists (
    select from pg_catalog.pg_constraint
    where conrelid = p_table and contype = 'f' and confrelid = 'public.tenants'::regclass
  ) then
    begin
      execute format('alter table %s add foreign key (tenant_id) references public.tenants (id)', p_table);
    exception
      when foreign_key_violation then
        raise exception 'cannot protect %: it has rows of tenants that are not in public.tenants', p_table
          using errcode = 'OP008',
            hint = format('select * from %s as t where not exists (select from tenants where id = t.tenant_id)', p_table);
    end;
  end if;

  if not exists (
    select from pg_catalog.pg_index as i
    inner join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
    where i.indrelid = p_table and a.attname = 'tenant_id' and i.indpred is null
  ) then
    execute format('create index on %s (tenant_id)', p_table);
  end if;

  execute format('alter table %s enable row level security', p_table);
  execute format('alter table %s force row level security', p_table);

  execute format('drop policy if exists own_tenant on %s', p_table);
  execute format(
    'create policy own_tenant on %s for all to brainops_tenant, brainops_worker
       using (tenant_id = (select brainops.current_tenant_id()))
       with check (tenant_id = (select brainops.current_tenant_id()))',
    p_table
  );
  execute format('drop policy if exists named_tenant on %s', p_table);
  execute format(
    'create policy named_tenant on %s for all to brainops_service
       using (tenant_id = (select brainops.current_tenant_id()))
       with check (tenant_id = (select brainops.current_tenant_id()) or (select brainops.may_name_tenant()))',
    p_table
  );
  execute format('drop policy if exists every_row on %s', p_table);
  execute format(
    'create policy every_row on %s for all to brainops_admin, brainops_system using (true) with check (true)',
    p_table
  );

  execute format('revoke all on %s from public, brainops_tenant, brainops_service', p_table);
  execute format(
    'grant select, insert, update, delete on %s to
       brainops_tenant, brainops_service, brainops_worker, brainops_admin, brainops_system',
    p_table
  );

  execute format(
    'create or replace trigger a0_remember_tenant before insert on %s
       for each statement execute function brainops.remember_tenant()',
    p_table
  );
  execute format(
    'alter table %s alter column tenant_id set default nullif(current_setting(''brainops.statement_tenant'', true), '''')::uuid',
    p_table
  );
  execute format(
    'create or replace trigger a1_fill_tenant before insert on %s
       for each row when (new.tenant_id is null or current_setting(''brainops.statement_tenant'', true) = '''')
       execute function brainops.fill_tenant()',
    p_table
  );

  -- A part can be asked by its own name, past the parent's policies: nobody but admins may.
  for v_part in
    select relid from pg_catalog.pg_partition_tree(p_table) where level > 0
    union
    select inhrelid from pg_catalog.pg_inherits where inhparent = p_table
  loop
    execute format('alter table %s enable row level security', v_part);
    execute format('alter table %s force row level security', v_part);
    execute format('drop policy if exists every_row on %s', v_part);
    execute format('create policy every_row on %s for all to brainops_admin, brainops_system using (true) with check (true)', v_part);
    execute format('revoke all on %s from public, brainops_tenant, brainops_service, brainops_worker', v_part);
  end loop;
end;
$$;

comment on function brainops.guard_table(regclass, boolean) is 'Behind protect_table and define_job_table.';

create function brainops.protect_table(p_table regclass)
returns void
language sql
set search_path = ''
as $$
  select brainops.guard_table(p_table, p_reference_tenants => true);
$$;

comment on function brainops.protect_table(regclass) is
  'Gives an existing table with a tenant_id the whole guard: forced row level security, policies by role, grants, the tenant filled in on insert. OP008 says what stands in the way. For the table''s owner.';

-- The tables of these schemas that have a tenant_id but not the guard; empty is right.
create view brainops.unprotected_tables
with (security_invoker = true)
as
  select
    c.oid::regclass as table_name,
    case
      when not c.relrowsecurity then 'row level security is off'
      when not c.relforcerowsecurity then 'row level security is not forced'
      else 'it has no policy'
    end as reason
  from
    pg_catalog.pg_class as c
    inner join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
  where
    c.relkind in ('r', 'p')
    and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    and (
      not c.relrowsecurity
      or not c.relforcerowsecurity
      or not exists (select from pg_catalog.pg_policy as p where p.polrelid = c.oid)
    );

comment on view brainops.unprotected_tables is
  'Tables with a tenant_id and without the guard; brainops.protect_table gives it to them.';

grant select on brainops.unprotected_tables to brainops_admin;

create trigger touch_updated_at
before update on public.tenants
for each row
execute function brainops.touch_updated_at();
