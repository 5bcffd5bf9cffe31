-- Liveness, rescue and sweep: what keeps promises when processes die.
--
-- A worker holds a session advisory lock for as long as it lives; Postgres drops the lock with the
-- connection, whatever killed it. Any other worker looks every second. A lock that is gone
-- makes its worker suspect; one that is still gone three seconds later makes it dead: its
-- graphile-worker jobs are unlocked and its rows settled as a crash leaves them. (graphile-worker
-- alone waits four hours.)
set local lock_timeout = '2s';

create table brainops.worker_processes (
  id uuid primary key,
  -- By chance: a number that can be foreseen could be locked by a tenant before the worker starts.
  number int not null unique default floor(random() * 2147483647)::int,
  login name not null default session_user,
  host text not null,
  pid int not null,
  tasks text[] not null default '{}',
  pool_ids text[] not null default '{}',
  backend_pid int,
  suspect_since timestamptz,
  started_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now()
);

comment on table brainops.worker_processes is
  'Worker processes by their own word; brainops.workers says which of them are alive.';
comment on column brainops.worker_processes.number is 'Second half of the advisory lock''s key.';
comment on column brainops.worker_processes.pool_ids is
  'graphile-worker pools the process has opened: what it may hold jobs by.';
comment on column brainops.worker_processes.backend_pid is
  'Server process of the connection that holds the lock. A lock held by any other does not count, so no tenant can keep a dead worker alive.';

-- Only for the built-in Postgres, where every client shares one session and advisory locks tell
-- nothing: its server calls embedded_connection_closed when a connection ends.
create unlogged table brainops.embedded_connections (
  connection_id text not null,
  worker_number int not null,
  primary key (connection_id, worker_number)
);

comment on table brainops.embedded_connections is
  'Built-in Postgres only: which connection stands for which worker. Empty elsewhere.';

do $$
declare
  v_table regclass;
begin
  foreach v_table in array array['brainops.worker_processes', 'brainops.embedded_connections']::regclass[]
  loop
    execute format('alter table %s enable row level security', v_table);
    execute format('alter table %s force row level security', v_table);
    execute format('create policy every_row on %s for all to brainops_admin, brainops_system using (true) with check (true)', v_table);
    execute format('grant select, insert, update, delete on %s to brainops_system', v_table);
  end loop;
end;
$$;

grant select on brainops.worker_processes, brainops.embedded_connections to brainops_admin;

create function brainops.liveness_class()
returns int
language sql
immutable
parallel safe
as $$
  select 1112690512;
$$; -- 'BROP'
comment on function brainops.liveness_class is 'First half of every worker''s advisory lock key.';

create function brainops.embedded_connection_closed(p_connection_id text)
returns void
language sql
set search_path = ''
as $$
  delete from brainops.embedded_connections where p_connection_id is null or connection_id = p_connection_id;
$$;

comment on function brainops.embedded_connection_closed(text) is
  'Called by the built-in Postgres when a connection ends; null when it starts.';

-- Takes (or takes up again) the lock that says the worker lives, on this very connection, and
-- enters the worker. False when the lock is held by another connection still: try again soon.
create function brainops.announce_worker(p_id uuid, p_host text, p_pid int, p_tasks text[])
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  v_number int;
  v_connection_id text := nullif(current_setting('brainops.connection_id', true), '');
begin
  insert into brainops.worker_processes as w (id, host, pid, tasks)
  values (p_id, p_host, p_pid, p_tasks)
  on conflict (id) do update set tasks = excluded.tasks
  returning number into v_number;

  if current_setting('brainops.embedded', true) = 'on' then
    insert into brainops.embedded_connections values (v_connection_id, v_number) on conflict do nothing;
  elsif not pg_catalog.pg_try_advisory_lock(brainops.liveness_class(), v_number) then
    -- Our own earlier connection, which died without Postgres hearing of it (a lost route).
    perform pg_terminate_backend(a.pid)
    from brainops.worker_processes as w
    inner join pg_catalog.pg_stat_activity as a on a.pid = w.backend_pid and a.usename = session_user
    where w.id = p_id and a.pid <> pg_backend_pid();
    return false;
  end if;
  update brainops.worker_processes
  set backend_pid = pg_backend_pid(), suspect_since = null, last_seen_at = brainops.now()
  where id = p_id;
  return true;
end;
$$;

create function brainops.worker_is_alive(p_number int, p_backend_pid int)
returns boolean
language sql
stable
set search_path = ''
as $$
  select
    case
      when current_setting('brainops.embedded', true) = 'on' then exists (
        select from brainops.embedded_connections where worker_number = p_number
      )
      else exists (
        select
        from pg_catalog.pg_locks
        where
          locktype = 'advisory'
          and database = (select oid from pg_catalog.pg_database where datname = current_database())
          and classid = brainops.liveness_class()::oid
          and objid = p_number::oid
          and objsubid = 2
          and granted
          and pid = p_backend_pid
      )
    end;
$$;

comment on function brainops.worker_is_alive(int, int) is
  'Whether the connection that the worker was announced on still holds its lock.';

create view brainops.workers
with (security_invoker = true)
as
  select
    id,
    host,
    pid,
    login,
    tasks,
    case
      when brainops.worker_is_alive(number, backend_pid) then 'alive'
      when suspect_since is not null then 'suspect'
      else 'unknown'
    end as state,
    started_at,
    last_seen_at
  from brainops.worker_processes;

comment on view brainops.workers is
  'Worker processes and whether they live: alive (holds its lock), suspect (lost it, about to be given up), unknown.';

grant select on brainops.workers to brainops_admin, brainops_system;

-- Settles rows whose worker will not: pending where the effect may be tried again, failed where
-- the attempts are used up (a row that kills its worker ends here), else unconfirmed.
create function brainops.abandon(p_job brainops.job_tables, p_worker_id uuid, p_older_than interval, p_reason text)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  execute format(
    $sql$
    update %s as t
    set
      status = n.status,
      scheduled_for = case when n.status = 'pending' then $4 else t.scheduled_for end,
      finished_at = case when n.status in ('failed', 'cancelled') then $4 end,
      last_error = $3,
      lease = null,
      worker_id = null,
      rate_slot = null
    from (
      select
        s.id,
        case
          when not $5 then 'unconfirmed'
          when s.cancel_requested_at is not null then 'cancelled'
          when s.attempts >= s.max_attempts then 'failed'
          else 'pending'
        end as status
      from %s as s
      where s.status = 'processing'
        and ($1 is null or s.worker_id = $1)
        and s.started_at <= $4 - $2
      for update skip locked
    ) as n
    where t.id = n.id
    $sql$,
    p_job.relation, p_job.relation
  )
    using p_worker_id, p_older_than, p_reason, brainops.now(), p_job.effect_is_idempotent;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

-- Looks after the workers: p_self says it is there; those that lost their lock become suspect,
-- then dead. Returns the dead. Two rescuers at once share the work by skip locked.
create function brainops.watch_workers(p_self uuid)
returns table (worker_id uuid, host text, pid int, rescued_rows int)
language plpgsql
set search_path = ''
as $$
declare
  c_patience constant interval := '3 seconds';
  v_worker brainops.worker_processes;
  v_job brainops.job_tables;
begin
  update brainops.worker_processes set last_seen_at = brainops.now() where id = p_self;

  for v_worker in
    select * from brainops.worker_processes as w
    where w.id is distinct from p_self and not brainops.worker_is_alive(w.number, w.backend_pid)
    for update skip locked
  loop
    -- After a restart of Postgres every worker has lost its lock: let it take it up again first.
    if v_worker.suspect_since is null or v_worker.suspect_since < pg_postmaster_start_time() then
      update brainops.worker_processes set suspect_since = clock_timestamp() where id = v_worker.id;
      continue;
    end if;
    continue when v_worker.suspect_since > clock_timestamp() - c_patience;

    worker_id := v_worker.id;
    host := v_worker.host;
    pid := v_worker.pid;
    rescued_rows := 0;
    for v_job in select * from brainops.job_tables
    loop
      rescued_rows := rescued_rows + brainops.abandon(
        v_job, v_worker.id, '0', format('its worker (%s, process %s) died while the row was in its hands', v_worker.host, v_worker.pid)
      );
    end loop;
    perform graphile_worker.force_unlock_workers(v_worker.pool_ids);
    delete from brainops.worker_processes where id = v_worker.id;
    return next;
  end loop;
end;
$$;

comment on function brainops.watch_workers(uuid) is
  'Gives up on workers that lost their lock: unlocks their graphile-worker jobs, settles their rows. Called by every worker every second.';

create function brainops.dismiss_worker(p_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_pool_ids text[];
begin
  delete from brainops.worker_processes where id = p_id returning pool_ids into v_pool_ids;
  if v_pool_ids <> '{}' then
    perform graphile_worker.force_unlock_workers(v_pool_ids);
  end if;
end;
$$;

comment on function brainops.dismiss_worker(uuid) is
  'A worker''s last word: forgets it and frees jobs that it still holds.';

-- Makes good what was lost, each minute: due rows without a job get one; rows in processing far
-- past their time limit are settled as crashed; jobs locked by pools that nobody owns are freed;
-- rows for which no live worker has a task say so in last_error.
create function brainops.sweep(p_most int default 10000)
returns table (table_name text, requeued int, timed_out int)
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
  v_ids uuid[];
  v_tenant_ids uuid[];
  v_run_ats timestamptz[];
  v_priorities smallint[];
  v_orphans text[];
begin
  select array_agg(distinct j.locked_by) into v_orphans
    from graphile_worker.jobs as j
    where j.locked_by is not null
      and j.locked_at < now() - interval '30 seconds'
      and not exists (select from brainops.worker_processes as w where j.locked_by = any (w.pool_ids));
  if v_orphans is not null then
    perform graphile_worker.force_unlock_workers(v_orphans);
  end if;

  for v_job in select * from brainops.job_tables as j order by j.table_name
  loop
    table_name := v_job.table_name;
    timed_out := brainops.abandon(v_job, null, v_job.time_limit + interval '2 minutes', 'its worker never settled it within the time limit');

    execute format(
      $sql$
      with open_tenants as materialized (
        select id from public.tenants where brainops.pause_reason($2, id) is null
      )
      select array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority), count(*)
      from (
        select t.id, t.tenant_id, t.scheduled_for, t.job_priority
        from %s as t
        inner join open_tenants as o on o.id = t.tenant_id
        where t.status = 'pending'
          and t.scheduled_for <= $1
          and not exists (
            select from graphile_worker.jobs as j
            where j.key = t.tenant_id || ':' || $2 || ':' || t.id and j.attempts < j.max_attempts
          )
        limit $3
      ) as s
      $sql$,
      v_job.relation
    )
      into v_ids, v_tenant_ids, v_run_ats, v_priorities, requeued
      using brainops.now(), v_job.table_name, p_most;
    if requeued > 0 then
      perform brainops.enqueue(v_job.table_name, v_ids, v_tenant_ids, v_run_ats, v_priorities);
    end if;
    return next;
  end loop;
end;
$$;

comment on function brainops.sweep(int) is
  'Each minute: jobs for due rows that have none (at most p_most a table), an end for rows stuck in processing, freedom for orphaned jobs.';

-- Says on the due rows of a task what they are waiting for, unless a live worker can run it.
create function brainops.note_waiting(p_task_identifier text, p_reason text)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
  v_count int;
begin
  select * into v_job from brainops.job_tables as j where j.task_identifier = p_task_identifier;
  if not found or exists (
    select from brainops.worker_processes as w
    where p_task_identifier = any (w.tasks) and brainops.worker_is_alive(w.number, w.backend_pid)
  ) then
    return 0;
  end if;
  execute format(
    'update %s set last_error = $1 where id in (
       select id from %s
       where status = ''pending'' and scheduled_for <= $2 and last_error is distinct from $1
       limit 10000 for update skip locked
     )',
    v_job.relation, v_job.relation
  )
    using p_reason, brainops.now();
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops.note_waiting(text, text) is
  'Writes p_reason into last_error of the due rows of a task that no live worker offers; returns how many.';

-- For workers' logins, which are members of brainops_system, and for admins.
do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'brainops.embedded_connection_closed(text)',
    'brainops.announce_worker(uuid, text, int, text[])',
    'brainops.abandon(brainops.job_tables, uuid, interval, text)',
    'brainops.watch_workers(uuid)',
    'brainops.dismiss_worker(uuid)',
    'brainops.sweep(int)',
    'brainops.note_waiting(text, text)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;
