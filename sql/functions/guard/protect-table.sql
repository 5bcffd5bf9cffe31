-- The guard: what every table with a tenant_id gets, so that a tenant reaches its own rows only. Start at
-- brainops.protect_table, which also takes tables that hold rows already.
--
-- It closes what policies alone leave open: row level security is forced (so it applies to the owner too), policies
-- name their roles, foreign keys are the pair (tenant_id, x_id), unique keys begin with tenant_id, and tenants have
-- no rights that row level security does not see or that let them lock the table (grants.sql). test/sql/guard.test.ts
-- reads the same rules back from the catalog.

create or replace function brainops.guard_obstacles(p_table regclass)
returns setof text
language sql
stable
set search_path = ''
as $$
  select 'it is not an ordinary or partitioned table'
  where not exists (select from pg_catalog.pg_class where oid = p_table and relkind in ('r', 'p'))
  union all
  select 'it does not have a column tenant_id of type uuid'
  where
    not exists (
      select
      from pg_catalog.pg_attribute
      where attrelid = p_table and attname = 'tenant_id' and atttypid = 'uuid'::regtype and not attisdropped
    )
  union all
  select
    format(
      'unique key %s does not begin with tenant_id, so a refused insert shows a tenant which values other tenants have',
      i.indexrelid::regclass
    )
  from
    pg_catalog.pg_index as i
    -- No attribute is found if the key begins with an expression.
    left join pg_catalog.pg_attribute as a
      on a.attrelid = i.indrelid and a.attnum = i.indkey[0]
  where
    i.indrelid = p_table
    and (i.indisunique or i.indisexclusion)
    and a.attname is distinct from 'tenant_id'
    and not (i.indisprimary and i.indnkeyatts = 1 and a.atttypid = 'uuid'::regtype)
  union all
  select
    format('policy %I applies to every role and shows rows that the guard hides; drop it or name its roles', polname)
  from pg_catalog.pg_policy
  where polrelid = p_table and polpermissive and 0 = any (polroles)
  union all
  select
    format(
      'foreign key %s to %s is not the pair (tenant_id, …), so a row can refer to a row of another tenant',
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
  'Why brainops.protect_table would refuse table p_table, one clause per reason; no rows if it would not.';

revoke execute on function brainops.guard_obstacles(regclass) from public;
grant execute on function brainops.guard_obstacles(regclass) to brainops_admin, brainops_system;

-- Job tables have no foreign key to tenants (p_reference_tenants false): brainops_internal.after_job_insert checks the
-- tenants of a whole statement at once.
create or replace function brainops_internal.guard_table(p_table regclass, p_reference_tenants boolean)
returns void
language plpgsql
set search_path = ''
-- Hides the notices "policy … does not exist, skipping".
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

  -- An index for the foreign key. A job table has no such key, and has indexes of its own.
  if p_reference_tenants and not exists (
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

  perform brainops_internal.grant_to_clients(p_table);

  execute format(
    'create or replace trigger a0_remember_tenant before insert on %s
       for each statement execute function brainops_internal.remember_tenant()',
    p_table
  );
  execute format(
    'alter table %s alter column tenant_id set default nullif(current_setting(''brainops.statement_tenant'', true), '''')::uuid',
    p_table
  );
  execute format(
    'create or replace trigger a1_fill_tenant before insert on %s
       for each row when (new.tenant_id is null or current_setting(''brainops.statement_tenant'', true) = '''')
       execute function brainops_internal.fill_tenant()',
    p_table
  );
  execute format(
    'create or replace trigger a1_show_inserted_row before insert on %s
       for each row when (
         current_setting(''brainops.statement_tenant'', true) = '''' and pg_has_role(current_user, ''brainops_service'', ''member'')
       )
       execute function brainops_internal.show_inserted_row()',
    p_table
  );

  -- A client could name a partition or child table directly and so avoid the parent's policies: only admins may.
  for v_part in
    select relid from pg_catalog.pg_partition_tree(p_table) where level > 0
    union
    select inhrelid from pg_catalog.pg_inherits where inhparent = p_table
  loop
    execute format('alter table %s enable row level security', v_part);
    execute format('alter table %s force row level security', v_part);
    execute format('drop policy if exists every_row on %s', v_part);
    execute format('create policy every_row on %s for all to brainops_admin, brainops_system using (true) with check (true)', v_part);
    perform brainops_internal.revoke_strangers(v_part);
    execute format('revoke all on %s from brainops_tenant, brainops_service, brainops_worker', v_part);
  end loop;
end;
$$;

comment on function brainops_internal.guard_table(regclass, boolean) is
  'Gives a table the guard, see brainops.protect_table; p_reference_tenants: with a foreign key to tenants. Called by brainops.protect_table and brainops.define_job_table.';

revoke execute on function brainops_internal.guard_table(regclass, boolean) from public;
grant execute on function brainops_internal.guard_table(regclass, boolean) to brainops_admin, brainops_system;

create or replace function brainops.protect_table(p_table regclass)
returns void
language sql
set search_path = ''
as $$
  select brainops_internal.guard_table(p_table, p_reference_tenants => true);
$$;

comment on function brainops.protect_table(regclass) is
  'Gives table p_table, which must have a column tenant_id uuid, the whole guard: forced row level security, policies and grants by role, a foreign key to tenants, and the tenant filled in on insert. Must be called by the owner of the table; may be called again, which resets its grants: columns added since become writable for tenants, and rights of other roles are revoked. OP008: the table cannot have the guard, and why.';

revoke execute on function brainops.protect_table(regclass) from public;
grant execute on function brainops.protect_table(regclass) to brainops_admin, brainops_system;
