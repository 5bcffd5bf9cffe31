-- The session guard: ends sessions of tenants' logins that stop other sessions. Start at guard_sessions.
--
-- A tenant may hold a row lock or a snapshot for as long as it likes: the time limits of its login are its own to change
-- (ALTER ROLE … RESET). What Postgres leaves to it is bounded here, by every worker, once a second.

-- Reads no table that a tenant can lock, so it never waits for the sessions that it is to end.
create or replace function brainops_internal.tenant_sessions()
returns table (pid int, login name, tenant_id uuid, datname name, backend_start timestamptz, xact_start timestamptz)
language sql
stable
set search_path = ''
as $$
  select a.pid, a.usename, l.tenant_id, a.datname, a.backend_start, a.xact_start
  from
    pg_catalog.pg_stat_activity as a
    inner join brainops.tenant_logins as l on l.login = a.usename
  where
    -- Also hides the times of sessions from those that may not signal them: brainops_internal.unguarded_logins.
    pg_catalog.pg_has_role(a.usesysid, 'usage')
    -- A superuser is a member of every role.
    and not pg_catalog.pg_has_role(a.usesysid, 'brainops_admin', 'member')
    and not pg_catalog.pg_has_role(a.usesysid, 'brainops_system', 'member')
    and a.backend_type = 'client backend'
    and a.pid <> pg_catalog.pg_backend_pid();
$$;

comment on function brainops_internal.tenant_sessions is
  'The sessions of tenants'' logins that the caller may end. Not those of admins, of the engine''s logins and of superusers, even if they are bound to a tenant.';

revoke execute on function brainops_internal.tenant_sessions() from public;
grant execute on function brainops_internal.tenant_sessions() to brainops_system;

create or replace function brainops_internal.blockers()
returns table (pid int, waiting_since timestamptz, blocked text[])
language sql
volatile
set search_path = ''
as $$
  with recursive
    waiting as materialized (
      select
        l.pid,
        min(l.waitstart) as since,
        min(l.mode || ' on ' || coalesce(l.relation::regclass::text, l.locktype)) as lock
      from pg_catalog.pg_locks as l
      where not l.granted and l.waitstart is not null
      group by l.pid
    ),
    edges as materialized (
      select w.pid, b.pid as blocker
      from
        waiting as w
        cross join unnest(pg_catalog.pg_blocking_pids(w.pid)) as b (pid)
    ),
    chains(victim, blocker) as (
      select pid, blocker from edges
      union
      select c.victim, e.blocker
      from
        chains as c
        inner join edges as e on e.pid = c.blocker
    )
  select
    c.blocker,
    min(w.since),
    (array_agg(format('process %s of %s, %s', w.pid, coalesce(a.usename, a.backend_type), w.lock) order by w.since))[
      1:10
    ]
  from
    chains as c
    inner join waiting as w on w.pid = c.victim
    inner join pg_catalog.pg_stat_activity as a on a.pid = w.pid and a.datname = current_database()
  where c.blocker <> c.victim
  group by c.blocker;
$$;

comment on function brainops_internal.blockers is
  'Sessions for whose locks sessions of this database wait, directly or behind others: since when the first of them waits, and up to ten of them.';

revoke execute on function brainops_internal.blockers() from public;
grant execute on function brainops_internal.blockers() to brainops_system;

-- Ending a session takes no superuser: Postgres lets members of a role end its sessions, and brainops_system is a member
-- of each tenant's login (brainops.create_login). It runs as brainops_system whoever calls it, so that a worker whose
-- login is a superuser ends no more than others.
create or replace function brainops_internal.guard_sessions()
returns table (login name, tenant_id uuid, pid int, reason text, lasted interval, blocked text[])
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_events_a_day constant int := 1000;
  v_blocking interval;
  v_transaction interval;
  v_session record;
begin
  if current_setting('brainops.embedded', true) = 'on'
    or not exists (select from brainops_internal.tenant_sessions())
  then
    return;
  end if;
  select s.value into strict v_blocking from brainops.settings as s where s.name = 'end_blocking_sessions_after';
  select s.value into strict v_transaction from brainops.settings as s where s.name = 'end_transactions_after';

  -- Several workers look. Each adds only the time since the last look of any of them.
  insert into brainops.blocking_sessions as m (pid, backend_start, xact_start, blocked_for, seen_at)
  select s.pid, s.backend_start, s.xact_start, clock_timestamp() - b.waiting_since, clock_timestamp()
  from brainops_internal.blockers() as b
  inner join brainops_internal.tenant_sessions() as s on s.pid = b.pid
  order by s.pid
  on conflict on constraint blocking_sessions_pkey do update
    set
      blocked_for =
        case when m.xact_start is not distinct from excluded.xact_start then m.blocked_for else '0' end
        + greatest(least(excluded.seen_at - m.seen_at, excluded.blocked_for), '0'),
      xact_start = excluded.xact_start,
      seen_at = greatest(m.seen_at, excluded.seen_at);
  delete from brainops.blocking_sessions as m where m.seen_at < clock_timestamp() - interval '1 minute';

  for v_session in
    select
      s.*,
      case when m.pid is null then 'long transaction' else 'blocked others' end as why,
      coalesce(m.blocked_for, clock_timestamp() - s.xact_start) as so_long,
      coalesce(b.blocked, '{}') as victims
    from brainops_internal.tenant_sessions() as s
    left join brainops_internal.blockers() as b on b.pid = s.pid
    left join brainops.blocking_sessions as m
      on m.pid = s.pid and m.backend_start = s.backend_start and m.blocked_for > v_blocking and b.pid is not null
    where m.pid is not null
      or (s.xact_start < clock_timestamp() - v_transaction and s.datname = current_database())
  loop
    -- Again at each look, as long as the session is there.
    perform pg_catalog.pg_terminate_backend(v_session.pid);
    -- Another worker may have recorded it.
    insert into brainops.session_events as e (tenant_id, login, pid, backend_start, reason, lasted, blocked)
    select v_session.tenant_id, v_session.login, v_session.pid, v_session.backend_start, v_session.why, v_session.so_long, v_session.victims
    where (
      select count(*) from brainops.session_events as o
      where o.tenant_id = v_session.tenant_id and o.at > clock_timestamp() - interval '1 day'
    ) < c_events_a_day
    on conflict on constraint session_events_once do nothing
    returning e.login, e.tenant_id, e.pid, e.reason, e.lasted, e.blocked
      into login, tenant_id, pid, reason, lasted, blocked;
    if found then
      return next;
    end if;
  end loop;
end;
$$;

comment on function brainops_internal.guard_sessions is
  'Ends sessions of tenants'' logins that have blocked other sessions for longer than settings.end_blocking_sessions_after, or have a transaction older than settings.end_transactions_after. Records each in brainops.session_events and returns those that this call recorded. Every worker calls it every second. Does nothing on the built-in Postgres, which runs one statement at a time.';

alter function brainops_internal.guard_sessions() owner to brainops_system;
revoke execute on function brainops_internal.guard_sessions() from public;

create or replace function brainops_internal.prune_session_events(p_most int default 5000)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  delete from brainops.session_events
  where id in (
    select e.id from brainops.session_events as e
    where e.at < brainops.now() - (select s.value from brainops.settings as s where s.name = 'drop_events_after')
    limit p_most
  );
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops_internal.prune_session_events(int) is
  'Deletes events of the session guard that are older than drop_events_after, at most p_most; returns their number.';

revoke execute on function brainops_internal.prune_session_events(int) from public;
grant execute on function brainops_internal.prune_session_events(int) to brainops_system;
