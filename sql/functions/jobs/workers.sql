-- Liveness of workers, and rescue of the rows of those that died. Start at brainops_internal.watch_workers.
--
-- A worker holds a session advisory lock for as long as it lives; Postgres releases the lock with the connection,
-- however the connection ended. All other workers check every second. A worker whose lock is released becomes suspect.
-- If the lock is still released three seconds later, the worker counts as dead: its graphile-worker jobs are unlocked,
-- and its rows settled. (graphile-worker alone waits four hours.)

create or replace function brainops_internal.liveness_class()
returns int
language sql
immutable
parallel safe
as $$
  select 1112690512;
$$;

comment on function brainops_internal.liveness_class is
  'The first half of the key of every worker''s advisory lock; the second is worker_processes.number.';

revoke execute on function brainops_internal.liveness_class() from public;
grant execute on function brainops_internal.liveness_class() to brainops_admin, brainops_system;

-- Takes a liveness lock on this connection, at the start of a worker and whenever its connection is replaced.
--
-- pg_locks shows the key to every role, so a tenant can queue behind the worker and get the lock the moment the
-- connection drops. Nothing waits for it here: each registration draws a new number, and only a lock of the registered
-- backend counts (worker_is_alive). A tenant that holds the old key holds nothing.
create or replace function brainops_internal.register_worker(p_id uuid, p_host text, p_pid int, p_tasks text[])
returns boolean
language plpgsql
set search_path = ''
as $$
declare
  -- Two billion numbers. One that is taken is another worker's, or that of somebody who locks numbers at random.
  c_draws constant int := 100;
  c_embedded constant boolean := coalesce(current_setting('brainops.embedded', true) = 'on', false);
  v_number int;
  v_locked boolean := false;
begin
  for i in 1..c_draws loop
    v_number := floor(random() * 2147483647)::int;
    v_locked := c_embedded or pg_catalog.pg_try_advisory_lock(brainops_internal.liveness_class(), v_number);
    exit when v_locked;
  end loop;
  if not v_locked then
    return false;
  end if;
  if c_embedded then
    insert into brainops.embedded_connections
    values (nullif(current_setting('brainops.connection_id', true), ''), v_number) on conflict do nothing;
  end if;

  -- An earlier connection that Postgres still considers open (a lost network route). It is found by its lock, because
  -- its pid may be another backend's by now.
  perform pg_terminate_backend(a.pid)
  from brainops.worker_processes as w
  inner join pg_catalog.pg_stat_activity as a on a.pid = w.backend_pid and a.usename = session_user
  where w.id = p_id and a.pid <> pg_backend_pid() and not c_embedded
    and brainops_internal.worker_is_alive(w.number, w.backend_pid);

  insert into brainops.worker_processes as w (id, number, host, pid, tasks, backend_pid)
  values (p_id, v_number, p_host, p_pid, p_tasks, pg_backend_pid())
  on conflict (id) do update
    set number = excluded.number, tasks = excluded.tasks, backend_pid = excluded.backend_pid,
      suspect_since = null, last_seen_at = brainops.now();
  return true;
end;
$$;

comment on function brainops_internal.register_worker(uuid, text, int, text[]) is
  'Registers a worker with its tasks, and takes a liveness lock with a new number on the calling connection. Waits for nobody. False: all numbers drawn were taken, so call again soon.';

revoke execute on function brainops_internal.register_worker(uuid, text, int, text[]) from public;
grant execute on function brainops_internal.register_worker(uuid, text, int, text[]) to brainops_system;

create or replace function brainops_internal.deregister_worker(p_id uuid)
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

comment on function brainops_internal.deregister_worker(uuid) is
  'Removes a worker that stops, and unlocks graphile-worker jobs that it still holds.';

revoke execute on function brainops_internal.deregister_worker(uuid) from public;
grant execute on function brainops_internal.deregister_worker(uuid) to brainops_system;

create or replace function brainops_internal.worker_is_alive(p_number int, p_backend_pid int)
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
          and classid = brainops_internal.liveness_class()::oid
          and objid = p_number::oid
          and objsubid = 2
          and granted
          and pid = p_backend_pid
      )
    end;
$$;

comment on function brainops_internal.worker_is_alive(int, int) is
  'Whether the connection on which the worker registered still holds its lock.';

revoke execute on function brainops_internal.worker_is_alive(int, int) from public;
grant execute on function brainops_internal.worker_is_alive(int, int) to brainops_admin, brainops_system;

-- With skip locked, two workers that watch at the same time share the work.
create or replace function brainops_internal.watch_workers(p_self uuid)
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
    where w.id is distinct from p_self and not brainops_internal.worker_is_alive(w.number, w.backend_pid)
    for update skip locked
  loop
    -- A restart of Postgres releases every worker's lock: give them time to take it again.
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
      rescued_rows := rescued_rows + brainops_internal.settle_rows_of_dead_worker(
        v_job, v_worker.id, format('its worker (%s, process %s) died while the row was in flight', v_worker.host, v_worker.pid)
      );
    end loop;
    perform graphile_worker.force_unlock_workers(v_worker.pool_ids);
    delete from brainops.worker_processes where id = v_worker.id;
    return next;
  end loop;
end;
$$;

comment on function brainops_internal.watch_workers(uuid) is
  'Updates last_seen_at of worker p_self, marks workers whose lock is released as suspect, and removes those that have been suspect for 3 s: their graphile-worker jobs are unlocked, their rows settled. Returns the removed workers. Called by every worker every second.';

revoke execute on function brainops_internal.watch_workers(uuid) from public;
grant execute on function brainops_internal.watch_workers(uuid) to brainops_system;

-- The status of the rows that were in flight when their worker died:
--
--                         effect idempotent                          not idempotent
--   cancel requested      cancelled                                  unconfirmed
--   in flight beside      pending, with its attempt back, and one    unconfirmed, and one death more
--   others                death more; a suspect at the second
--   a suspect, alone      failed                                     unconfirmed
--
-- The attempt is given back because most of the rows were merely beside the one that killed the worker. That one ends
-- by its third death, in a process where nothing else is in flight.
create or replace function brainops_internal.settle_rows_of_dead_worker(
  p_job brainops.job_tables,
  p_worker_id uuid,
  p_reason text,
  p_alone boolean default false,
  p_again boolean default false
)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  execute format(
    $update$
    update %1$s as t
    set
      %2$s,
      attempts = t.attempts - (n.status = 'pending')::int,
      scheduled_for = case when n.status = 'pending' then $3 else t.scheduled_for end
    from (
      select
        s.id,
        case
          when not $4 then 'unconfirmed'
          when s.cancel_requested_at is not null then 'cancelled'
          when s.worker_deaths >= 2 and not $6 then 'failed'
          else 'pending'
        end as status
      from %1$s as s
      where s.status = 'processing' and s.worker_id = $1 and (s.worker_deaths >= 2 or not $5)
      for update skip locked
    ) as n
    where t.id = n.id
    $update$,
    p_job.relation,
    brainops_internal.settled_columns(
      'n.status', '$3',
      p_last_error => $sql$
        case
          when n.status <> 'failed' then $2
          else format('its worker died %s times while it was in flight, the last time while it ran alone: %s', t.worker_deaths + 1, $2)
        end
      $sql$,
      p_worker_deaths => 'least(t.worker_deaths + 1, 100)'
    )
  )
    using p_worker_id, p_reason, brainops.now(), p_job.effect_is_idempotent, p_alone, p_again;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops_internal.settle_rows_of_dead_worker(brainops.job_tables, uuid, text, boolean, boolean) is
  'Settles the rows of a job table that were in flight when worker p_worker_id died, and counts the death. p_reason goes to last_error. p_alone: only suspects, because not the worker died, but its process for rows that run alone. p_again: these do not fail, but wait for another run alone. Returns their number.';

revoke execute
on function brainops_internal.settle_rows_of_dead_worker(brainops.job_tables, uuid, text, boolean, boolean)
from public;
grant execute
on function brainops_internal.settle_rows_of_dead_worker(brainops.job_tables, uuid, text, boolean, boolean)
to brainops_system;

create or replace function brainops_internal.settle_suspect(
  p_table text,
  p_worker_id uuid,
  p_reason text,
  p_again boolean
)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  return brainops_internal.settle_rows_of_dead_worker(v_job, p_worker_id, p_reason, p_alone => true, p_again => p_again);
end;
$$;

comment on function brainops_internal.settle_suspect(text, uuid, text, boolean) is
  'Settles the row that worker p_worker_id ran alone when the process that did so ended, for p_reason. p_again: the process had run another row before, which may be the cause; so this one runs again. Returns 1, or 0 if the row was not claimed, or is settled.';

revoke execute on function brainops_internal.settle_suspect(text, uuid, text, boolean) from public;
grant execute on function brainops_internal.settle_suspect(text, uuid, text, boolean) to brainops_system;

create or replace function brainops_internal.embedded_connection_closed(p_connection_id text)
returns void
language sql
set search_path = ''
as $$
  delete from brainops.embedded_connections where p_connection_id is null or connection_id = p_connection_id;
$$;

comment on function brainops_internal.embedded_connection_closed(text) is
  'Removes the workers of a connection that ended; with null, of all connections. The built-in Postgres calls it when a connection ends, and with null when it starts.';

revoke execute on function brainops_internal.embedded_connection_closed(text) from public;
grant execute on function brainops_internal.embedded_connection_closed(text) to brainops_system;
