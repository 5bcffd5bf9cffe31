-- Job tables: brainops.define_job_table turns a table into a job table. The files of tables/ call it, and so do people
-- with tables of their own.

-- Adds what the table lacks: the engine's columns, checks and indexes (brainops_internal.add_job_columns), the guard,
-- the triggers, its row in brainops.job_tables. Nothing is removed, so it may be called again with other parameters.
create or replace function brainops.define_job_table(
  p_table regclass,
  p_task_identifier text,
  p_effect_is_idempotent boolean,
  p_channel text default null,
  p_gate text default null,
  p_provider text default null,
  p_result_columns text[] default '{}',
  p_time_limit interval default '30 seconds',
  p_max_attempts int default 5,
  p_bulk_column text default null
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_missing text;
  v_columns text;
  v_editable text;
  v_changed text;
  v_name text := (select relname from pg_catalog.pg_class where oid = p_table);
  v_schema text := (select nspname from pg_catalog.pg_class inner join pg_catalog.pg_namespace as n on n.oid = relnamespace where pg_class.oid = p_table);
begin
  if not exists (
    select from pg_catalog.pg_attribute where attrelid = p_table and attname = 'lease' and not attisdropped
  ) then
    perform brainops_internal.add_job_columns(p_table, p_max_attempts);
  end if;
  -- Columns that a later release added to the list.
  select string_agg(format('add column %I %s', c.name, c.definition), ', ' order by c.position) into v_missing
    from brainops.job_columns as c
    where not exists (
      select from pg_catalog.pg_attribute as a where a.attrelid = p_table and a.attname = c.name and not a.attisdropped
    );
  if v_missing is not null then
    execute format('alter table %s %s', p_table, v_missing);
  end if;
  perform brainops_internal.guard_table(p_table, p_reference_tenants => false);

  -- Tenants and services write what they ask for; only the engine writes the results.
  select
    string_agg(quote_ident(a.attname), ', ') filter (where coalesce(c.client_inserts, true)),
    string_agg(quote_ident(a.attname), ', ') filter (where coalesce(c.client_updates, true))
    into v_columns, v_editable
    from pg_catalog.pg_attribute as a
    left join brainops.job_columns as c on c.name = a.attname
    where a.attrelid = p_table and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
      and a.attname <> all (p_result_columns);
  execute format('revoke insert, update on %s from brainops_tenant, brainops_service', p_table);
  execute format('grant insert (%1$s), update (%2$s) on %3$s to brainops_tenant, brainops_service', v_columns, v_editable, p_table);

  insert into brainops.job_tables (table_name, relation, task_identifier, channel, effect_is_idempotent, gate, provider, result_columns, time_limit, bulk_column)
  values (brainops_internal.job_table_name(v_schema, v_name), format('%I.%I', v_schema, v_name), p_task_identifier, p_channel, p_effect_is_idempotent, p_gate, p_provider, p_result_columns, p_time_limit, p_bulk_column)
  on conflict (table_name) do update
    set relation = excluded.relation, task_identifier = excluded.task_identifier, channel = excluded.channel,
      effect_is_idempotent = excluded.effect_is_idempotent, gate = excluded.gate, provider = excluded.provider,
      result_columns = excluded.result_columns, bulk_column = excluded.bulk_column;

  if p_bulk_column is not null and not exists (
    select from pg_catalog.pg_index as i
    inner join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[1] and a.attname = p_bulk_column
    where i.indrelid = p_table
  ) then
    execute format('create index on %1$s (tenant_id, %2$I, status, scheduled_for) where %2$I is not null', p_table, p_bulk_column);
  end if;

  -- Rows with the defaults need no check, so the condition skips the function for them.
  select string_agg(format('new.%I is distinct from %s', name, initial), ' or ' order by position) into v_changed
    from brainops.job_columns
    where initial is not null;
  execute format(
    'create or replace trigger b0_before_job_insert before insert on %s for each row
       when (new.scheduled_for is null or %s)
       execute function brainops_internal.before_job_insert()',
    p_table, v_changed
  );
  execute format(
    'create or replace trigger b1_before_job_update before update on %s for each row
       when (
         (old.status is distinct from new.status or new.scheduled_for is null or old.tenant_id <> new.tenant_id)
         -- A claim and a settle, recognised by the lease, write correct values already.
         and not (new.status = ''processing'' and old.status = ''pending'' and old.lease is null and new.lease is not null)
         and not (old.status = ''processing'' and old.lease is not null and new.lease is null)
       )
       execute function brainops_internal.before_job_update()',
    p_table
  );
  execute format('create or replace trigger c0_after_job_insert after insert on %s referencing new table as inserted for each statement execute function brainops_internal.after_job_insert()', p_table);
  execute format(
    'create or replace trigger c1_after_job_update after update on %s referencing old table as before_rows new table as after_rows
       for each statement execute function brainops_internal.after_job_update()',
    p_table
  );
  execute format('create or replace trigger c2_after_job_delete after delete on %s referencing old table as deleted for each statement execute function brainops_internal.after_job_delete()', p_table);

  perform brainops_internal.rebuild_jobs_view();
  grant select on brainops.jobs to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
end;
$$;

comment on function brainops.define_job_table(regclass, text, boolean, text, text, text, text[], interval, int, text) is
  'Makes a table a job table: adds the engine''s columns, checks, indexes and triggers, the guard of brainops.protect_table, and its rows to brainops.jobs. Called by the owner, that is the login that ran brainops migrate; may be called again. p_task_identifier: the task that does the work, a file in tasks/. p_effect_is_idempotent: true if a row may be tried again after a crash; if false it becomes unconfirmed. p_channel: name for brainops.pause. p_gate: function (uuid[]) returning setof brainops.verdict that may hold rows back. p_provider: provider whose accounts the effect goes through, such as sendgrid; each has a circuit breaker. p_result_columns: columns that a completed outcome may fill; tenants cannot write them. p_time_limit: how long an effect may take. p_max_attempts: 1 to 25, used only when the columns are added. p_bulk_column: column (uuid) whose value is shared by rows that may go out in one provider call; the task must handle bulks. Null: none. OP008: the table cannot have the guard.';

revoke execute
on function brainops.define_job_table(regclass, text, boolean, text, text, text, text[], interval, int, text)
from public;

-- The view has a branch per job table, so it is recreated when a table becomes a job table. If its columns and tables
-- are right already, it stays: define_job_table holds a lock on its table here, and a reader of the view that comes to
-- that table next would deadlock with the replacement.
create or replace function brainops_internal.rebuild_jobs_view()
returns void
language plpgsql
set search_path = ''
as $$
declare
  c_view constant regclass := to_regclass('brainops.jobs');
  -- A column that a release adds is shown once every job table has it.
  v_columns text[] := array(
    select c.name from brainops.job_columns as c
    where c.is_listed and not exists (
      select from brainops.job_tables as j
      where not exists (
        select from pg_catalog.pg_attribute as a
        where a.attrelid = j.relation::regclass and a.attname = c.name and not a.attisdropped
      )
    )
    order by c.position
  );
  v_query text;
begin
  if array(
    select attname::text from pg_catalog.pg_attribute where attrelid = c_view and attnum > 0 order by attnum
  ) = array['table_name'] || v_columns
    and array(
      select distinct d.refobjid
      from pg_catalog.pg_depend as d
      inner join pg_catalog.pg_rewrite as r on r.oid = d.objid and r.ev_class <> d.refobjid
      where d.classid = 'pg_rewrite'::regclass and d.refclassid = 'pg_class'::regclass and r.ev_class = c_view
      order by 1
    ) = array(select relation::regclass::oid from brainops.job_tables order by 1)
  then
    return;
  end if;
  select string_agg(
    format('select %L::text as table_name, %s from %s', j.table_name, c.names, j.relation),
    ' union all ' order by j.table_name
  )
    into v_query
    from brainops.job_tables as j
    cross join (
      select string_agg(quote_ident(name), ', ' order by n) as names from unnest(v_columns) with ordinality as u (name, n)
    ) as c;
  execute 'create or replace view brainops.jobs with (security_invoker = true) as ' || v_query;
  comment on view brainops.jobs is
    'The rows of all job tables, with the columns that they have in common. To change a row, update its own table, or call brainops.retry, brainops.cancel or brainops.confirm.';
end;
$$;

comment on function brainops_internal.rebuild_jobs_view is
  'Recreates the view brainops.jobs over all tables in brainops.job_tables, if it differs from that.';

revoke execute on function brainops_internal.rebuild_jobs_view() from public;
