-- What people do to job rows: retry, cancel and confirm single rows, pause and resume whole tables. Start at
-- brainops.retry.
--
-- All functions run with the caller's rights: row level security decides which rows a tenant reaches, and only admins
-- and the engine may write brainops.pauses. Tenants may not look into brainops_internal, so what they call has a
-- `begin atomic` body, which is parsed when the function is created. So the helpers come first.

create or replace function brainops_internal.job_table(p_table text)
returns brainops.job_tables
language plpgsql
stable
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into v_job from brainops.job_tables where p_table in (table_name, relation);
  if not found then
    raise exception 'table: % is not a job table', quote_literal(p_table)
      using errcode = 'OP007',
        hint = 'Job tables: ' || (select string_agg(table_name, ', ' order by table_name) from brainops.job_tables);
  end if;
  return v_job;
end;
$$;

comment on function brainops_internal.job_table(text) is
  'The entry of a job table, by its table_name or its relation. OP007: it is not a job table; the hint lists them.';

revoke execute on function brainops_internal.job_table(text) from public;
grant execute
on function brainops_internal.job_table(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Locks the row, checks its status and sets the new one. The triggers of the table do the rest (rows.sql): attempts,
-- times, the record of the change and the row's job. A row that becomes pending is due at once.
create or replace function brainops_internal.set_job_status(
  p_job brainops.job_tables,
  p_id uuid,
  p_from text[],
  p_to text
)
returns text
language plpgsql
set search_path = ''
as $$
declare
  v_status text;
begin
  execute format('select status from %s where id = $1 for update', p_job.relation) into v_status using p_id;
  if v_status is null then
    raise exception 'id: % has no row %', p_job.table_name, p_id
      using errcode = 'OP009', hint = 'Check the id: select * from brainops.jobs where id = …; archived rows are in brainops.job_archive.';
  end if;
  if v_status <> all (p_from) then
    raise exception 'status: row % is %, and only % can become %', p_id, v_status, array_to_string(p_from, ', '), p_to
      using errcode = 'OP010', hint = 'To see why: select status, last_error from brainops.jobs where id = …';
  end if;
  execute format(
    'update %s set status = $2, scheduled_for = case when $2 = ''pending'' then least(scheduled_for, $3) else scheduled_for end
     where id = $1 returning status',
    p_job.relation
  )
    into v_status
    using p_id, p_to, brainops.now();
  return v_status;
end;
$$;

comment on function brainops_internal.set_job_status(brainops.job_tables, uuid, text[], text) is
  'Sets a row''s status from one of p_from to p_to, and returns the status that it has afterwards. OP009: the row does not exist, or the caller may not see it. OP010: its status is not in p_from.';

revoke execute on function brainops_internal.set_job_status(brainops.job_tables, uuid, text[], text) from public;
grant execute
on function brainops_internal.set_job_status(brainops.job_tables, uuid, text[], text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.retry(p_table text, p_id uuid)
returns text
language sql
set search_path = ''
begin atomic
  select
    brainops_internal.set_job_status(
      brainops_internal.job_table(p_table),
      p_id,
      array['failed', 'cancelled', 'skipped', 'awaiting_approval'],
      'pending'
    );
end;

comment on function brainops.retry(text, uuid) is
  'Runs a failed, cancelled, skipped or awaiting_approval row of job table p_table again: now, with all its attempts. Returns the new status. OP007: p_table is not a job table. OP009: it has no such row. OP010: the row has another status; an unconfirmed row is settled by brainops.confirm.';

revoke execute on function brainops.retry(text, uuid) from public;
grant execute
on function brainops.retry(text, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.retry_failed_rows(p_job brainops.job_tables, p_since timestamptz)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  execute format(
    'update %s set status = ''pending'' where status = ''failed'' and finished_at >= $1',
    p_job.relation
  )
    using p_since;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops_internal.retry_failed_rows(brainops.job_tables, timestamptz) is
  'Sets the failed rows of a job table that finished at or after p_since to pending; returns their number.';

revoke execute on function brainops_internal.retry_failed_rows(brainops.job_tables, timestamptz) from public;
grant execute
on function brainops_internal.retry_failed_rows(brainops.job_tables, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.retry_failed(p_table text, p_since timestamptz)
returns int
language sql
set search_path = ''
begin atomic
  select brainops_internal.retry_failed_rows(brainops_internal.job_table(p_table), p_since);
end;

comment on function brainops.retry_failed(text, timestamptz) is
  'Runs all rows of job table p_table again that failed at or after p_since; returns their number. OP007: p_table is not a job table.';

revoke execute on function brainops.retry_failed(text, timestamptz) from public;
grant execute
on function brainops.retry_failed(text, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.cancel(p_table text, p_id uuid)
returns text
language sql
set search_path = ''
begin atomic
  select
    brainops_internal.set_job_status(
      brainops_internal.job_table(p_table),
      p_id,
      array['pending', 'processing', 'failed', 'unconfirmed', 'awaiting_approval'],
      'cancelled'
    );
end;

comment on function brainops.cancel(text, uuid) is
  'Stops a pending, processing, failed, unconfirmed or awaiting_approval row of job table p_table. Returns the new status: cancelled, or processing for a row in flight: it gets its real outcome, and is not tried again (cancel_requested_at is set). OP007, OP009 and OP010 as for brainops.retry.';

revoke execute on function brainops.cancel(text, uuid) from public;
grant execute
on function brainops.cancel(text, uuid)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.confirm(p_table text, p_id uuid, p_happened boolean)
returns text
language sql
set search_path = ''
begin atomic
  select
    brainops_internal.set_job_status(
      brainops_internal.job_table(p_table),
      p_id,
      array['unconfirmed'],
      case
        when p_happened then 'completed'
        else 'pending'
      end
    );
end;

comment on function brainops.confirm(text, uuid, boolean) is
  'Settles an unconfirmed row of job table p_table. p_happened true: its effect happened, and the row is completed. False or null: it did not happen, and the row becomes pending and runs now. Returns the new status. OP007, OP009 and OP010 as for brainops.retry.';

revoke execute on function brainops.confirm(text, uuid, boolean) from public;
grant execute
on function brainops.confirm(text, uuid, boolean)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.pause(
  p_table text,
  p_tenant text default null,
  p_channel text default null,
  p_reason text default 'no reason given'
)
returns void
language sql
set search_path = ''
as $$
  insert into brainops.pauses as p (table_name, tenant_id, channel, reason)
  values
    (
      (brainops_internal.job_table(p_table)).table_name,
      case
        when p_tenant is not null then brainops_internal.tenant_id_of(p_tenant)
      end,
      p_channel,
      p_reason
    )
  on conflict (tenant_id, table_name, channel) do update
    set
      reason = excluded.reason,
      paused_by = session_user,
      paused_at = now();
$$;

comment on function brainops.pause(text, text, text, text) is
  'Pauses job table p_table: its due rows wait as pending, with p_reason in last_error; rows in flight finish. p_tenant: slug or id of the tenant whose rows wait; null: every tenant''s. p_channel: the pause applies only if this is the table''s channel; null: always. A second call for the same three replaces the reason. OP007: unknown table or tenant.';

revoke execute on function brainops.pause(text, text, text, text) from public;
grant execute on function brainops.pause(text, text, text, text) to brainops_admin, brainops_system;

create or replace function brainops.resume(p_table text, p_tenant text default null, p_channel text default null)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables := brainops_internal.job_table(p_table);
  v_tenant_id uuid := case when p_tenant is not null then brainops_internal.tenant_id_of(p_tenant) end;
begin
  delete from brainops.pauses
  where table_name = v_job.table_name
    and (p_tenant is null or tenant_id = v_tenant_id)
    and (p_channel is null or channel = p_channel);
  -- Claims during the pause have used up the rows' jobs. A new scheduled_for queues new ones, through the trigger.
  return brainops_internal.spread_rows(v_job, v_tenant_id, null);
end;
$$;

comment on function brainops.resume(text, text, text) is
  'Ends pauses of job table p_table: those of p_tenant (slug or id), or with null all of them; with p_channel only pauses for that channel. Returns the number of due rows that resume. They are spread over time: at the pace of the table''s rate limit, else at 20 a second, or faster so that an hour is enough. OP007: unknown table or tenant.';

revoke execute on function brainops.resume(text, text, text) from public;
grant execute on function brainops.resume(text, text, text) to brainops_admin, brainops_system;
