-- What a trigger's table is called in brainops.job_tables.
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
  'What a table is called in brainops.job_tables: its name, with the schema where that is not public.';

revoke execute on function brainops_internal.job_table_name(name, name) from public;
grant execute
on function brainops_internal.job_table_name(name, name)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Words that clients write -> our words. Null for one that nobody knows.
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
  'The job status that a word means (queued, scheduled, new, open: pending); null for an unknown word.';

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
  -- The two common words need no call.
  v_status text := case
    when new.status is null or new.status in ('pending', 'queued') then 'pending'
    else brainops_internal.normal_status(new.status)
  end;
begin
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002',
        hint = 'Write pending (or queued, scheduled, new, open), awaiting_approval, or leave status out.';
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
  new.cancel_requested_at := null;
  if v_status in ('pending', 'awaiting_approval') then
    new.finished_at := null;
    new.skip_reason := null;
  else
    -- History that is brought along, e.g. by an import.
    new.finished_at := coalesce(new.finished_at, brainops.now());
    if v_status = 'skipped' then
      new.skip_reason := coalesce(new.skip_reason, 'inserted as skipped');
    end if;
  end if;
  return new;
end;
$$;

alter function brainops_internal.before_job_insert() owner to brainops_system;
revoke execute on function brainops_internal.before_job_insert() from public;

-- For writes that are not the engine's own. Those are told by the lease: a claim sets it, a settle
-- clears it, a client has no right to the column and so leaves it as it is. The trigger's condition
-- (sql/0005) leaves claims and settles out.
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
    raise exception 'tenant_id: row % belongs to its tenant for good', old.id
      using errcode = 'OP003', hint = 'Cancel the row, and insert another for the other tenant.';
  end if;
  if v_status is null then
    raise exception 'status: unknown word %', quote_literal(left(new.status, 80))
      using errcode = 'OP002', hint = 'Write pending to run the row (again), or cancelled to stop it.';
  end if;
  new.status := v_status;
  new.scheduled_for := coalesce(new.scheduled_for, brainops.now());
  if old.status = new.status then
    return new;
  end if;

  if old.status = 'processing' then
    if v_status = 'cancelled' then
      -- What is with the provider can't be called back. The wish is kept: the row will not be
      -- tried again, and its true outcome is still written.
      new.status := 'processing';
      new.cancel_requested_at := coalesce(new.cancel_requested_at, brainops.now());
      return new;
    end if;
    raise exception 'status: row % is being processed since %, so it cannot be set to %', old.id, old.started_at, quote_literal(v_status)
      using errcode = 'OP003', hint = 'Wait until it is settled; cancelled is taken as a wish meanwhile.';
  end if;

  if v_status = 'processing' then
    raise exception 'status: row % cannot be set to processing by hand', old.id
      using errcode = 'OP003', hint = 'Set it to pending; a worker claims it when it is due.';
  end if;
  if v_status = 'unconfirmed' then
    raise exception 'status: row % cannot be set to unconfirmed by hand', old.id
      using errcode = 'OP003', hint = 'Only a lost outcome is unconfirmed; brainops.confirm(table, id, happened) settles one.';
  end if;
  if v_status = 'cancelled' and old.status = 'completed' then
    raise exception 'status: row % was completed at %, so it cannot be cancelled', old.id, old.finished_at
      using errcode = 'OP003', hint = 'Add "and status = ''pending''" to the update.';
  end if;

  if v_status in ('pending', 'awaiting_approval') then
    -- Runs (again): with all its attempts, as if new.
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
  -- What a foreign key to tenants would hold, once for the statement instead of once for each row
  -- (10,000 rows: 177 ms instead of 201). The lock keeps the tenants from being deleted meanwhile.
  if (select count(*) from (
    select from public.tenants where id in (select tenant_id from inserted) for key share
  ) as t) <> (select count(distinct tenant_id) from inserted) then
    raise exception 'tenant_id: % names a tenant that does not exist', tg_relid::regclass
      using errcode = 'foreign_key_violation', column = 'tenant_id', hint = 'select id, slug from tenants';
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

alter function brainops_internal.after_job_insert() owner to brainops_system;
revoke execute on function brainops_internal.after_job_insert() from public;

-- One pass over the changed rows: each is asked once what it means for the record and for its job.
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
    -- Due at another time, or due again.
    array_agg(c.id) filter (where c.status = 'pending'),
    array_agg(c.tenant_id) filter (where c.status = 'pending'),
    array_agg(c.scheduled_for) filter (where c.status = 'pending'),
    array_agg(c.job_priority) filter (where c.status = 'pending'),
    -- Not due any more. A claim (pending -> processing) keeps the job: it is running this very row.
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

alter function brainops_internal.after_job_delete() owner to brainops_system;
revoke execute on function brainops_internal.after_job_delete() from public;
