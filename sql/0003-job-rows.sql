-- The job-row engine, first half: a row in a job table is the truth, its graphile-worker job is
-- its alarm clock. Triggers keep the second in step with the first, whoever writes the row.
--
--                    ┌──────────── retry at T, deferred until T ───────────┐
--                    ▼                                                     │
--   insert ──▶ pending ──claim──▶ processing ──settle──▶ completed         │
--                │ ▲                   ├──────────────▶ failed             │
--                │ │                   ├──────────────▶ skipped            │
--                │ │                   ├──────────────▶ cancelled (asked)  │
--                │ │                   ├──────────────▶ unconfirmed ──▶ completed | pending
--                │ │                   └───────────────────────────────────┘
--                │ └── update … set status = 'pending': again, from any state but processing
--                └──── cancelled | skipped (the gate says never)
--   awaiting_approval ──approved──▶ pending
--
-- Lock order everywhere: job row, then graphile_worker's job. The triggers below run after the
-- row is locked; nothing locks a graphile job first and a row second.
set local lock_timeout = '2s';

create table brainops.job_tables (
  table_name text primary key,
  relation text not null unique,
  task_identifier text not null unique,
  channel text,
  effect_is_idempotent boolean not null,
  gate text,
  sender text,
  result_columns text[] not null default '{}',
  time_limit interval not null default '30 seconds',
  max_deferrals int not null default 500,
  archive_after interval not null default '30 days',
  constraint job_tables_time_limit_positive check (time_limit > '0'),
  constraint job_tables_archive_after_positive check (archive_after > '0')
);

comment on table brainops.job_tables is
  'The job tables, written by brainops.define_job_table. time_limit, max_deferrals and archive_after may be edited.';
comment on column brainops.job_tables.table_name is
  'What people call it, e.g. ai_email_queue; with its schema where that is not public.';
comment on column brainops.job_tables.relation is 'Schema and name, quoted where need be, e.g. public.ai_email_queue.';
comment on column brainops.job_tables.task_identifier is 'The graphile-worker task: the name of a file in tasks/.';
comment on column brainops.job_tables.channel is
  'What brainops.pause() calls it: email, sms, …; null where the table has none.';
comment on column brainops.job_tables.effect_is_idempotent is
  'Whether the effect may be tried again after a crash. If not, the row becomes unconfirmed.';
comment on column brainops.job_tables.gate is
  'Function (uuid[]) returning setof brainops.verdict, asked while the rows are locked; null for none.';
comment on column brainops.job_tables.sender is
  'Name of the circuit breaker that the effect goes through; null for none.';
comment on column brainops.job_tables.result_columns is
  'Columns beyond the engine''s own that a handler may fill when it settles.';
comment on column brainops.job_tables.time_limit is
  'How long an effect may take; past it the handler''s signal is aborted.';
comment on column brainops.job_tables.max_deferrals is 'How often a provider may say "later" before the row fails.';
comment on column brainops.job_tables.archive_after is 'Rows done for this long move to brainops.job_archive.';

revoke all on brainops.job_tables from public;
grant select on brainops.job_tables to brainops_tenant, brainops_worker, brainops_service, brainops_system;
grant select on brainops.job_tables to brainops_admin;
-- Not relation and gate: the engine runs them as SQL, with rights that admins do not have.
grant update (time_limit, max_deferrals, archive_after) on brainops.job_tables to brainops_admin;

-- One row for each change of a status, never changed afterwards. The birth of a row is its own
-- created_at: an event beside each insert would say nothing more, and cost as many rows again.
create table brainops.job_events (
  id bigint generated always as identity,
  tenant_id uuid not null,
  table_name text not null,
  row_id uuid not null,
  from_status text not null,
  to_status text not null,
  attempt int not null,
  detail text,
  changed_by name not null default session_user,
  at timestamptz not null default now()
)
partition by range (at);

create index job_events_row on brainops.job_events (tenant_id, row_id, id);

comment on table brainops.job_events is
  'Every status change of every job row, append only, by month. Retention drops whole months.';
comment on column brainops.job_events.detail is
  'last_error or skip_reason as of the change; null where there was none.';
comment on column brainops.job_events.changed_by is
  'The login that made the change: a worker''s, a tenant''s or an admin''s.';

create function brainops.refuse_change()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  -- The one exception: brainops.forget takes out of an event's words what may name a person.
  if tg_op = 'UPDATE' and current_user = 'brainops_system'
    and to_jsonb(new) = to_jsonb(old) || '{"detail": "erased"}' then
    return new;
  end if;
  raise exception '% is append only: % is refused', tg_relid::regclass, lower(tg_op)
    using errcode = 'insufficient_privilege', hint = 'Insert a new row; retention drops whole partitions.';
end;
$$;

create trigger append_only
before update or delete on brainops.job_events
for each row
execute function brainops.refuse_change();
create trigger append_only_truncate
before truncate on brainops.job_events
for each statement
execute function brainops.refuse_change();

-- What a trigger's table is called in brainops.job_tables.
create function brainops.job_table_name(p_schema name, p_table name)
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

comment on function brainops.job_table_name(name, name) is
  'What a table is called in brainops.job_tables: its name, with the schema where that is not public.';

-- Words that clients write -> our words. Null for one that nobody knows.
create function brainops.normal_status(p_word text)
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

comment on function brainops.normal_status(text) is
  'The job status that a word means (queued, scheduled, new, open: pending); null for an unknown word.';

create function brainops.before_job_insert()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  -- The two common words need no call.
  v_status text := case
    when new.status is null or new.status in ('pending', 'queued') then 'pending'
    else brainops.normal_status(new.status)
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

-- For writes that are not the engine's own. Those are told by the lease: a claim sets it, a settle
-- clears it, a client has no right to the column and so leaves it as it is. The trigger's condition
-- (sql/0005) leaves claims and settles out.
create function brainops.before_job_update()
returns trigger
language plpgsql
set search_path = ''
as $$
declare
  v_status text := brainops.normal_status(new.status);
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

-- Gives rows their jobs, in one add_jobs.
--
-- Fairness: graphile-worker takes the lowest priority number first, then the oldest run_at. A
-- tenant's first 50 waiting rows get level 0, the next 50 level 1, … up to 20; so one tenant's
-- 100,000 rows never stand in front of another tenant's one. Within a level the row's own
-- job_priority orders. The backlog is counted only as far as it matters (1,000).
create function brainops.enqueue(
  p_table text,
  p_ids uuid[],
  p_tenant_ids uuid[],
  p_run_ats timestamptz[],
  p_priorities smallint[]
)
returns void
language plpgsql
-- Only the owner of graphile_worker may add jobs.
security definer
set search_path = ''
as $$
declare
  c_per_level constant int := 50;
  c_levels constant int := 20;
  v_job brainops.job_tables;
  v_tenant record;
  v_specs graphile_worker.job_spec[];
begin
  select * into strict v_job from brainops.job_tables where table_name = p_table;

  -- Waiting rows of each tenant, these included; `before` is how many stand in front of the first.
  for v_tenant in
    select tenant_id, count(*)::int as n from unnest(p_tenant_ids) as t (tenant_id) group by tenant_id
  loop
    declare
      v_waiting int;
      v_before int;
    begin
      execute format(
        'select count(*) from (select from %s where tenant_id = $1 and status = ''pending'' and scheduled_for <= $2 limit $3) as s',
        v_job.relation
      )
        into v_waiting
        using v_tenant.tenant_id, brainops.now(), c_per_level * c_levels + v_tenant.n;
      v_before := greatest(v_waiting - v_tenant.n, 0);

      select array_agg(
        row(
          v_job.task_identifier,
          json_build_object('id', r.id, 'tenant_id', r.tenant_id),
          null,
          r.run_at,
          null,
          r.tenant_id || ':' || p_table || ':' || r.id,
          least((v_before + r.rank - 1) / c_per_level, c_levels) * 101 + r.priority + 50,
          null
        )::graphile_worker.job_spec
      )
        into v_specs
        from (
          select u.*, row_number() over ()::int as rank
          from unnest(p_ids, p_tenant_ids, p_run_ats, p_priorities) as u (id, tenant_id, run_at, priority)
          where u.tenant_id = v_tenant.tenant_id
        ) as r;
      perform graphile_worker.add_jobs(v_specs);
    end;
  end loop;
end;
$$;

comment on function brainops.enqueue(text, uuid[], uuid[], timestamptz[], smallint[]) is
  'Gives the rows their graphile-worker jobs, one each, key <tenant_id>:<table>:<id>; a job that is there already is moved.';

alter function brainops.enqueue(text, uuid[], uuid[], timestamptz[], smallint[]) owner to brainops_system;
revoke execute on function brainops.enqueue(text, uuid[], uuid[], timestamptz[], smallint[]) from public;

-- Takes jobs away, all in one statement: graphile_worker.remove_job costs a scan of the whole table
-- for each key, which for 20,000 keys took most of a minute. A job that a worker has fetched already stays, runs, and
-- finds that its row is not due.
create function brainops.dequeue(p_keys text[])
returns void
language sql
security definer
set search_path = ''
as $$
  select graphile_worker.complete_jobs(array(select id from graphile_worker.jobs where key = any (p_keys)));
$$;

comment on function brainops.dequeue(text[]) is
  'Takes the graphile-worker jobs with these keys away, but for those that a worker has fetched.';

alter function brainops.dequeue(text[]) owner to brainops_system;
revoke execute on function brainops.dequeue(text[]) from public;

create function brainops.after_job_insert()
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
    perform brainops.enqueue(brainops.job_table_name(tg_table_schema, tg_table_name), v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  perform pg_notify('brainops_jobs', tg_table_name);
  return null;
end;
$$;

alter function brainops.after_job_insert() owner to brainops_system;
revoke execute on function brainops.after_job_insert() from public;

create function brainops.after_job_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_table constant text := brainops.job_table_name(tg_table_schema, tg_table_name);
  v_keys text[];
  v_ids uuid[];
  v_tenant_ids uuid[];
  v_run_ats timestamptz[];
  v_priorities smallint[];
begin
  insert into brainops.job_events (tenant_id, table_name, row_id, from_status, to_status, attempt, detail)
  select n.tenant_id, c_table, n.id, o.status, n.status, n.attempts, coalesce(n.skip_reason, n.last_error)
  from after_rows as n
  inner join before_rows as o on o.id = n.id
  where o.status <> n.status;
  if found then
    perform pg_notify('brainops_jobs', tg_table_name);
  end if;

  -- Due at another time, or due again.
  select array_agg(n.id), array_agg(n.tenant_id), array_agg(n.scheduled_for), array_agg(n.job_priority)
    into v_ids, v_tenant_ids, v_run_ats, v_priorities
    from after_rows as n
    inner join before_rows as o on o.id = n.id
    where n.status = 'pending'
      and (o.status <> 'pending' or o.scheduled_for <> n.scheduled_for or o.job_priority <> n.job_priority);
  if v_ids is not null then
    perform brainops.enqueue(c_table, v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;

  -- Not due any more. A claim (pending -> processing) keeps the job: it is running this very row.
  select array_agg(n.tenant_id || ':' || c_table || ':' || n.id) into v_keys
    from after_rows as n
    inner join before_rows as o on o.id = n.id
    where o.status = 'pending' and n.status not in ('pending', 'processing');
  if v_keys is not null then
    perform brainops.dequeue(v_keys);
  end if;
  return null;
end;
$$;

alter function brainops.after_job_update() owner to brainops_system;
revoke execute on function brainops.after_job_update() from public;

create function brainops.after_job_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_keys text[];
begin
  select array_agg(tenant_id || ':' || brainops.job_table_name(tg_table_schema, tg_table_name) || ':' || id) into v_keys
    from deleted
    where status = 'pending';
  if v_keys is not null then
    perform brainops.dequeue(v_keys);
  end if;
  return null;
end;
$$;

alter function brainops.after_job_delete() owner to brainops_system;
revoke execute on function brainops.after_job_delete() from public;

-- The other half of that foreign key.
create function brainops.before_tenant_delete()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
  v_found boolean;
begin
  for v_job in select * from brainops.job_tables
  loop
    execute format('select exists (select from %s where tenant_id = $1)', v_job.relation) into v_found using old.id;
    if v_found then
      raise exception 'tenant % still has rows in %', old.slug, v_job.table_name
        using errcode = 'foreign_key_violation', hint = 'Suspend the tenant instead, or delete its rows first.';
    end if;
  end loop;
  return old;
end;
$$;

alter function brainops.before_tenant_delete() owner to brainops_system;
revoke execute on function brainops.before_tenant_delete() from public;

create trigger a0_before_tenant_delete
before delete on public.tenants
for each row
execute function brainops.before_tenant_delete();

-- What a gate says of a row that may not go now.
create type brainops.verdict as (id uuid, outcome text, until timestamptz, reason text);

comment on type brainops.verdict is
  'A gate''s word on one row: defer (until), hold (until somebody resumes), skip (never, reason says why) or fail. A row without one goes.';
