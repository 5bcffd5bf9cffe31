-- Stalls: rows of a job table are due, and none is claimed. Start at brainops_internal.stalls, which /readyz,
-- /metrics, brainops doctor and brainops.queue_health ask. It says nothing about the cause: no worker, a lock, a job that
-- was lost. So it depends on nothing that may stand still as well, and waits for no lock.

create or replace function brainops_internal.record_claims(p_seconds_ago jsonb)
returns void
language sql
set search_path = ''
as $$
  insert into brainops.job_claims as c (table_name, claimed_at)
  select j.table_name, brainops.now() - make_interval(secs => (p_seconds_ago ->> j.table_name)::float8)
  from brainops.job_tables as j
  where p_seconds_ago ? j.table_name
  -- Sorted, so that two workers cannot deadlock.
  order by j.table_name
  on conflict (table_name) do update set claimed_at = greatest(c.claimed_at, excluded.claimed_at);
$$;

comment on function brainops_internal.record_claims(jsonb) is
  'Records when a worker last claimed rows: a JSON object from the table''s name to a number of seconds ago.';

revoke execute on function brainops_internal.record_claims(jsonb) from public;
grant execute on function brainops_internal.record_claims(jsonb) to brainops_system;

-- Rows that wait for a reason do not count: a worker writes it into last_error, or moves the row to a later time (rate
-- limit, open breaker, quiet hours). Nor do those of paused or suspended tenants, and not for a minute after they
-- were queued: a client may insert a row that has been due since last year. Nor does a row that a tenant's login has
-- locked: otherwise a tenant could make the whole installation appear to stand still.
--
-- Bounded, whatever the number of rows: a table with a recent claim is not read at all; of the others, the first and the
-- last 200 due rows of each tenant.
create or replace function brainops_internal.stalls(p_after interval default '60 seconds')
returns table (table_name text, due int, since timestamptz)
language plpgsql
stable
-- Callers may not read graphile_worker. Tenants get no rows: brainops.queue_health, which they may read, calls it.
security definer
set search_path = ''
set lock_timeout = '50ms'
as $$
declare
  c_most constant int := 200;
  v_before constant timestamptz := brainops.now() - p_after;
  v_clients xid[];
  v_job record;
begin
  if not (
    pg_catalog.pg_has_role(session_user, 'brainops_admin', 'member')
    or pg_catalog.pg_has_role(session_user, 'brainops_system', 'member')
  ) then
    return;
  end if;
  v_clients := array(
    select l.transactionid
    from pg_catalog.pg_locks as l
    inner join pg_catalog.pg_stat_activity as a on a.pid = l.pid
    inner join brainops.tenant_logins as t on t.login = a.usename
    where l.locktype = 'transactionid' and l.granted
  );
  for v_job in
    select j.table_name, j.relation, c.claimed_at
    from brainops.job_tables as j
    left join brainops.job_claims as c on c.table_name = j.table_name
    where c.claimed_at is null or c.claimed_at <= v_before
    order by j.table_name
  loop
    table_name := v_job.table_name;
    begin
      execute format(
        $sql$
        with recursive waiting (tenant_id) as (
          (select tenant_id from %1$s where status = 'pending' order by tenant_id limit 1)
          union all
          select (
            select n.tenant_id from %1$s as n
            where n.status = 'pending' and n.tenant_id > w.tenant_id
            order by n.tenant_id
            limit 1
          )
          from waiting as w
          where w.tenant_id is not null
        )
        select count(*)::int, min(r.scheduled_for)
        from waiting as w
        cross join lateral (
          (
            select id, scheduled_for, last_error, xmax::text as locker from %1$s
            where tenant_id = w.tenant_id and status = 'pending' and scheduled_for <= $1
            order by scheduled_for
            limit $2
          )
          union
          (
            select id, scheduled_for, last_error, xmax::text as locker from %1$s
            where tenant_id = w.tenant_id and status = 'pending' and scheduled_for <= $1
            order by scheduled_for desc
            limit $2
          )
        ) as r
        where w.tenant_id is not null
          and r.last_error is null
          and r.locker <> all ($4)
          and brainops_internal.pause_reason($3, w.tenant_id) is null
          and not exists (
            select from graphile_worker.jobs as j
            where j.key = w.tenant_id || ':' || $3 || ':' || r.id and j.created_at > $1
          )
        $sql$,
        v_job.relation
      )
        into due, since
        using v_before, c_most, v_job.table_name, v_clients::text[];
      continue when due = 0;
      since := greatest(since, v_job.claimed_at);
    exception
      when lock_not_available then
        due := null;
        since := v_job.claimed_at;
    end;
    return next;
  end loop;
end;
$$;

comment on function brainops_internal.stalls(interval) is
  'Job tables in which rows have been due for p_after, wait for no reason that a worker gave, and none was claimed in that time. due: their number, at most 400 are counted per tenant; null if the table cannot be read, because another transaction has locked it. since: when the stall began; null if that is not known. Empty for tenants'' logins and services.';

alter function brainops_internal.stalls(interval) owner to brainops_system;
revoke execute on function brainops_internal.stalls(interval) from public;
grant execute
on function brainops_internal.stalls(interval)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
