-- The triggers of job tables: they check what clients write, keep rows and their graphile-worker jobs in step, and
-- record every change of a status. Start at before_job_update, which holds the rules for a client's update.
--
-- Claims and settles write correct values themselves, and the conditions of the before triggers leave them out
-- (define.sql). The after triggers run for each statement, for the engine's writes too.

create or replace function brainops_internal.job_table_name(p_schema name, p_table name)
returns text
language sql
immutable
parallel safe
as $$
  select
    case
      when p_schema = 'public' then p_table::text
      else p_schema || '.' || p_table
    end;
$$;

comment on function brainops_internal.job_table_name(name, name) is
  'The name of a table in brainops.job_tables: its own, with the schema if that is not public.';

revoke execute on function brainops_internal.job_table_name(name, name) from public;
grant execute
on function brainops_internal.job_table_name(name, name)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.normal_status(p_word text)
returns text
language sql
immutable
parallel safe
set search_path = ''
as $$
  select
    case pg_catalog.lower(pg_catalog.btrim(p_word))
      when 'pending' then 'pending'
      when 'queued' then 'pending'
      when 'scheduled' then 'pending'
      when 'new' then 'pending'
      when 'open' then 'pending'
      when 'processing' then 'processing'
      when 'completed' then 'completed'
      when 'failed' then 'failed'
      when 'cancelled' then 'cancelled'
      when 'canceled' then 'cancelled'
      when 'skipped' then 'skipped'
      when 'unconfirmed' then 'unconfirmed'
      when 'awaiting_approval' then 'awaiting_approval'
    end;
$$;

comment on function brainops_internal.normal_status(text) is
  'The job status that a client''s value means: queued, scheduled, new and open are pending, canceled is cancelled; upper case and surrounding spaces are ignored. Null for any other value.';

revoke execute on function brainops_internal.normal_status(text) from public;
grant execute
on function brainops_internal.normal_status(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.before_job_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- The two common values need no call.
  v_status text := case
    when new.status is null or new.status in ('pending', 'queued') then 'pending'
    else brainops_internal.normal_status(new.status)
  end;
begin
  if v_status is null then
    raise exception 'status: % is not a job status', quote_literal(left(new.status, 80))
      using errcode = 'OP002',
        hint = 'Write pending (or queued, scheduled, new, open) or awaiting_approval, or leave status out.';
  end if;
  if v_status in ('processing', 'unconfirmed') then
    raise exception 'status: a row cannot be inserted as %', quote_literal(new.status)
      using errcode = 'OP003', hint = 'Insert it as pending; a worker claims it when it is due.';
  end if;

  new.status := v_status;
  new.scheduled_for := coalesce(new.scheduled_for, brainops.now());
  new.attempts := 0;
  new.deferrals := 0;
  new.lease := null;
  new.worker_id := null;
  new.rate_slot := null;
  new.worker_deaths := 0;
  new.cancel_requested_at := null;
  if v_status in ('pending', 'awaiting_approval') then
    new.finished_at := null;
    new.skip_reason := null;
  else
    -- Inserted as finished, for example when history is imported.
    new.finished_at := coalesce(new.finished_at, brainops.now());
    if v_status = 'skipped' then
      new.skip_reason := coalesce(new.skip_reason, 'inserted as skipped');
    end if;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.before_job_insert is
  'Trigger: normalises the status of an inserted job row, and resets the columns that only the engine writes. OP002: unknown status. OP003: processing or unconfirmed.';

alter function brainops_internal.before_job_insert() owner to brainops_system;
revoke execute on function brainops_internal.before_job_insert() from public;

-- The rules for updates by clients. The engine's own updates are recognised by the lease: a claim sets it, a settle
-- clears it, and a client has no right to the column. The trigger's condition leaves those out (define.sql).
create or replace function brainops_internal.before_job_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_status text := brainops_internal.normal_status(new.status);
begin
  if old.tenant_id <> new.tenant_id then
    raise exception 'tenant_id: the tenant of row % cannot be changed', old.id
      using errcode = 'OP003', hint = 'Cancel the row, and insert a new one for the other tenant.';
  end if;
  if v_status is null then
    raise exception 'status: % is not a job status', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write pending to run the row (again), or cancelled to stop it.';
  end if;
  new.status := v_status;
  new.scheduled_for := coalesce(new.scheduled_for, brainops.now());
  if old.status = new.status then
    return new;
  end if;

  if old.status = 'processing' then
    if v_status = 'cancelled' then
      -- A call in progress cannot be taken back. The request is recorded: the row is not tried again, and its real
      -- outcome is still written.
      new.status := 'processing';
      new.cancel_requested_at := coalesce(new.cancel_requested_at, brainops.now());
      return new;
    end if;
    raise exception 'status: row % has been processing since %, so it cannot be set to %', old.id, old.started_at, quote_literal(v_status)
      using errcode = 'OP003', hint = 'Wait until it is settled. Set it to cancelled to prevent another attempt.';
  end if;

  if v_status = 'processing' then
    raise exception 'status: row % cannot be set to processing by hand', old.id
      using errcode = 'OP003', hint = 'Set it to pending; a worker claims it when it is due.';
  end if;
  if v_status = 'unconfirmed' then
    raise exception 'status: row % cannot be set to unconfirmed by hand', old.id
      using errcode = 'OP003', hint = 'Only the engine writes unconfirmed. To settle an unconfirmed row, call brainops.confirm(table, id, happened).';
  end if;
  if v_status = 'cancelled' and old.status = 'completed' then
    raise exception 'status: row % was completed at %, so it cannot be cancelled', old.id, old.finished_at
      using errcode = 'OP003', hint = 'To leave completed rows out, add "and status = ''pending''" to the update.';
  end if;

  if v_status in ('pending', 'awaiting_approval') then
    -- Runs (again) with all its attempts, like a new row. Only worker_deaths stays: a suspect runs alone, which costs it
    -- nothing, while a client that set a row that kills its worker to pending again and again would kill two more each
    -- time.
    new.attempts := 0;
    new.deferrals := 0;
    new.finished_at := null;
    new.skip_reason := null;
    new.rate_slot := null;
    new.cancel_requested_at := null;
  else
    new.finished_at := brainops.now();
    new.skip_reason := case when v_status = 'skipped' then coalesce(new.skip_reason, 'set by ' || session_user) end;
  end if;
  return new;
end;
$$;

comment on function brainops_internal.before_job_update is
  'Trigger: checks a client''s change of a job row''s status or tenant, and resets what a new run needs. Cancelling a row in processing sets cancel_requested_at. OP002: unknown status. OP003: not allowed in the row''s status.';

alter function brainops_internal.before_job_update() owner to brainops_system;
revoke execute on function brainops_internal.before_job_update() from public;

create or replace function brainops_internal.after_job_insert()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_ids uuid[];
  v_tenant_ids uuid[];
  v_run_ats timestamptz[];
  v_priorities smallint[];
begin
  -- Replaces a foreign key to tenants by one check per statement (inserting 10,000 rows: 177 ms instead of 201 ms). The
  -- lock keeps the tenants from being deleted until this transaction ends.
  if (select count(*) from (
    select from public.tenants where id in (select tenant_id from inserted) for key share
  ) as t) <> (select count(distinct tenant_id) from inserted) then
    raise exception 'tenant_id: a row of % names a tenant that does not exist', tg_relid::regclass
      using errcode = 'foreign_key_violation', column = 'tenant_id', hint = 'Give the id of a tenant: select id, slug from tenants.';
  end if;

  select array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority)
    into v_ids, v_tenant_ids, v_run_ats, v_priorities
    from inserted
    where status = 'pending';
  if v_ids is not null then
    perform brainops_internal.enqueue(brainops_internal.job_table_name(tg_table_schema, tg_table_name), v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  perform pg_notify('brainops_jobs', tg_table_name);
  return null;
end;
$$;

comment on function brainops_internal.after_job_insert is
  'Trigger: checks that the tenants of inserted job rows exist, queues jobs for the pending rows, and sends a NOTIFY on channel brainops_jobs. 23503: a tenant does not exist.';

alter function brainops_internal.after_job_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_job_insert() from public;

-- One pass over the changed rows decides what to record and which jobs to queue or remove.
create or replace function brainops_internal.after_job_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_table constant text := brainops_internal.job_table_name(tg_table_schema, tg_table_name);
  v_moved boolean;
  v_keys text[];
  v_ids uuid[];
  v_tenant_ids uuid[];
  v_run_ats timestamptz[];
  v_priorities smallint[];
begin
  with
    changed as materialized (
      select
        n.id, n.tenant_id, n.status, n.scheduled_for, n.job_priority, n.attempts, o.status as old_status,
        case when o.status <> n.status then coalesce(n.skip_reason, n.last_error) end as detail
      from after_rows as n
      inner join before_rows as o on o.id = n.id
      where o.status <> n.status
        or n.status = 'pending' and (o.scheduled_for <> n.scheduled_for or o.job_priority <> n.job_priority)
    ),
    noted as (
      insert into brainops.job_events (tenant_id, table_name, row_id, from_status, to_status, attempt, detail)
      select c.tenant_id, c_table, c.id, c.old_status, c.status, c.attempts, c.detail
      from changed as c
      where c.old_status <> c.status
    )
  select
    bool_or(c.old_status <> c.status),
    -- Due at another time, or due again: queue or move the job.
    array_agg(c.id) filter (where c.status = 'pending'),
    array_agg(c.tenant_id) filter (where c.status = 'pending'),
    array_agg(c.scheduled_for) filter (where c.status = 'pending'),
    array_agg(c.job_priority) filter (where c.status = 'pending'),
    -- No longer pending: remove the job. A claim (pending -> processing) keeps it, because that job is running the row.
    array_agg(c.tenant_id || ':' || c_table || ':' || c.id)
      filter (where c.old_status = 'pending' and c.status not in ('pending', 'processing'))
    into v_moved, v_ids, v_tenant_ids, v_run_ats, v_priorities, v_keys
    from changed as c;

  if v_moved then
    perform pg_notify('brainops_jobs', tg_table_name);
  end if;
  if v_ids is not null then
    perform brainops_internal.enqueue(c_table, v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  if v_keys is not null then
    perform brainops_internal.dequeue(v_keys);
  end if;
  return null;
end;
$$;

comment on function brainops_internal.after_job_update is
  'Trigger: writes a row of brainops.job_events per change of a status, queues, moves and removes graphile-worker jobs, and sends a NOTIFY on channel brainops_jobs.';

alter function brainops_internal.after_job_update() owner to brainops_system;
revoke execute on function brainops_internal.after_job_update() from public;

create or replace function brainops_internal.after_job_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_keys text[];
begin
  select array_agg(tenant_id || ':' || brainops_internal.job_table_name(tg_table_schema, tg_table_name) || ':' || id) into v_keys
    from deleted
    where status = 'pending';
  if v_keys is not null then
    perform brainops_internal.dequeue(v_keys);
  end if;
  return null;
end;
$$;

comment on function brainops_internal.after_job_delete is
  'Trigger: removes the graphile-worker jobs of deleted pending rows.';

alter function brainops_internal.after_job_delete() owner to brainops_system;
revoke execute on function brainops_internal.after_job_delete() from public;
