-- Makes a table a job table: adds what is missing, never takes anything away.
create or replace function brainops.define_job_table(
  p_table regclass,
  p_task_identifier text,
  p_effect_is_idempotent boolean,
  p_channel text default null,
  p_gate text default null,
  p_sender text default null,
  p_result_columns text[] default '{}',
  p_time_limit interval default '30 seconds',
  p_max_attempts int default 5
)
returns void
language plpgsql
-- Tenants may not name what the engine writes.
set search_path = ''
as $$
declare
  c_engine_columns constant text[] := array[
    'attempts', 'deferrals', 'last_error', 'skip_reason', 'lease', 'worker_id', 'started_at',
    'finished_at', 'rate_slot', 'cancel_requested_at'
  ];
  v_columns text;
  v_editable text;
  v_name text := (select relname from pg_catalog.pg_class where oid = p_table);
  v_schema text := (select nspname from pg_catalog.pg_class inner join pg_catalog.pg_namespace as n on n.oid = relnamespace where pg_class.oid = p_table);
begin
  if not exists (
    select from pg_catalog.pg_attribute where attrelid = p_table and attname = 'lease' and not attisdropped
  ) then
    perform brainops_internal.add_job_columns(p_table, p_max_attempts);
  end if;
  perform brainops_internal.guard_table(p_table, p_reference_tenants => false);

  -- Tenants and services write what they ask for; what came of it is the engine's to write.
  select
    string_agg(quote_ident(attname), ', '),
    string_agg(quote_ident(attname), ', ') filter (where attname not in ('id', 'tenant_id', 'created_at'))
    into v_columns, v_editable
    from pg_catalog.pg_attribute
    where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = ''
      and attname <> all (c_engine_columns || p_result_columns);
  execute format('revoke insert, update on %s from brainops_tenant, brainops_service', p_table);
  execute format('grant insert (%1$s), update (%2$s) on %3$s to brainops_tenant, brainops_service', v_columns, v_editable, p_table);

  insert into brainops.job_tables (table_name, relation, task_identifier, channel, effect_is_idempotent, gate, sender, result_columns, time_limit)
  values (brainops_internal.job_table_name(v_schema, v_name), format('%I.%I', v_schema, v_name), p_task_identifier, p_channel, p_effect_is_idempotent, p_gate, p_sender, p_result_columns, p_time_limit)
  on conflict (table_name) do update
    set relation = excluded.relation, task_identifier = excluded.task_identifier, channel = excluded.channel,
      effect_is_idempotent = excluded.effect_is_idempotent, gate = excluded.gate, sender = excluded.sender,
      result_columns = excluded.result_columns;

  -- Rows that are as the defaults make them need no function.
  execute format(
    'create or replace trigger b0_before_job_insert before insert on %s for each row
       when (
         new.status is distinct from ''pending'' or new.scheduled_for is null or new.attempts <> 0 or new.deferrals <> 0
         or new.lease is not null or new.worker_id is not null or new.rate_slot is not null
         or new.cancel_requested_at is not null or new.finished_at is not null or new.skip_reason is not null
       )
       execute function brainops_internal.before_job_insert()',
    p_table
  );
  execute format(
    'create or replace trigger b1_before_job_update before update on %s for each row
       when (
         (old.status is distinct from new.status or new.scheduled_for is null or old.tenant_id <> new.tenant_id)
         -- a claim and a settle, known by the lease, write what is right already
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

comment on function brainops.define_job_table(regclass, text, boolean, text, text, text, text[], interval, int) is
  'Makes a table a job table: engine columns, checks, triggers, guard. Task: the file in tasks/. idempotent: whether the effect may be tried again after a crash. For the table''s owner.';

revoke execute
on function brainops.define_job_table(regclass, text, boolean, text, text, text, text[], interval, int)
from public;

create or replace function brainops.define_bulk(p_table text, p_column text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  update brainops.job_tables set bulk_column = p_column where table_name = p_table returning * into strict v_job;
  if not exists (
    select from pg_catalog.pg_index as i
    inner join pg_catalog.pg_attribute as a on a.attrelid = i.indrelid and a.attnum = i.indkey[1] and a.attname = p_column
    where i.indrelid = v_job.relation::regclass
  ) then
    execute format(
      'create index on %1$s (tenant_id, %2$I, status, scheduled_for) where %2$I is not null',
      v_job.relation, p_column
    );
  end if;
end;
$$;

comment on function brainops.define_bulk(text, text) is
  'Lets rows of a job table that share a value of the column (uuid) go out in one call; for the table''s owner. The task says how, by `batch` in defineJob.';

revoke execute on function brainops.define_bulk(text, text) from public;

-- All job tables as one, rebuilt whenever there is a new one.
create or replace function brainops_internal.rebuild_jobs_view()
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_query text;
begin
  select string_agg(
    format(
      'select %L::text as table_name, id, tenant_id, status, scheduled_for, attempts, max_attempts, deferrals, last_error,
         skip_reason, job_priority, idempotency_key, worker_id, cancel_requested_at, started_at, finished_at, created_at
       from %s',
      j.table_name, j.relation
    ),
    ' union all ' order by j.table_name
  )
    into v_query
    from brainops.job_tables as j;
  execute 'create or replace view brainops.jobs with (security_invoker = true) as ' || v_query;
  comment on view brainops.jobs is
    'The rows of every job table, with the columns they share. Write to the tables themselves, or through brainops.retry, cancel and confirm.';
end;
$$;

revoke execute on function brainops_internal.rebuild_jobs_view() from public;
