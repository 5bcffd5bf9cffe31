-- The graphile-worker jobs that wake rows. Start at brainops_internal.enqueue; triggers call it for the rows of a
-- statement, a claim for rows that it could not lock, and the sweep for rows that have lost their job (requeue).
--
-- A row has a job of its own, with the key <tenant_id>:<table>:<id>. Rows of a bulk share jobs: a claim of one also
-- claims the others, so one job per bulk_max rows is enough, and at most four per statement. A claim that leaves due
-- rows behind queues the next job before it ends. A job only wakes rows: if its row is not due, it does nothing.

-- Queues jobs for rows, in one call of add_jobs per tenant.
--
-- Fairness: the job's priority begins with a level, 0 for a tenant's first 50 waiting rows, 1 for the next 50, up to
-- 20, so a tenant with few waiting rows goes before one with many. Rows without a job of their own count as well.
-- Within a level, the row's job_priority decides.
create or replace function brainops_internal.enqueue(
  p_table text,
  p_ids uuid[],
  p_tenant_ids uuid[],
  p_run_ats timestamptz[],
  p_priorities smallint[],
  p_key_suffix text default ''
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
  -- Enough for the claims of several workers to overlap with their sending; more would only wait for each other.
  c_jobs_of_bulk constant int := 4;
  v_job brainops.job_tables;
  v_bulks uuid[];
  v_tenant record;
  v_specs graphile_worker.job_spec[];
begin
  select * into strict v_job from brainops.job_tables where table_name = p_table;
  if v_job.bulk_column is not null then
    execute format(
      'select array_agg(case when t.worker_deaths < 2 then t.%I end order by u.n)
       from unnest($1) with ordinality as u (id, n)
       left join %s as t on t.id = u.id',
      v_job.bulk_column, v_job.relation
    )
      into v_bulks
      using p_ids;
  end if;

  -- v_waiting: the tenant's due rows, counted up to the last level. v_before: those of them that are not in p_ids.
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
          case
            when r.bulk is null then json_build_object('id', r.id, 'tenant_id', r.tenant_id)
            else json_build_object('id', r.id, 'tenant_id', r.tenant_id, 'batch', r.bulk)
          end,
          null,
          r.run_at,
          null,
          r.tenant_id || ':' || p_table || ':' || r.id || p_key_suffix,
          least((v_before + r.rank - 1) / c_per_level, c_levels) * 101 + r.priority + 50,
          null
        )::graphile_worker.job_spec
      )
        into v_specs
        from (
          select u.*, row_number() over (order by u.n)::int as rank
          from (
            select
              i.*,
              row_number() over (partition by i.bulk, i.run_at, i.priority order by i.n) as place,
              count(*) over (partition by i.bulk, i.run_at, i.priority) as size
            from unnest(p_ids, p_tenant_ids, p_run_ats, p_priorities, v_bulks)
              with ordinality as i (id, tenant_id, run_at, priority, bulk, n)
            where i.tenant_id = v_tenant.tenant_id
          ) as u
          where u.bulk is null or u.place <= c_jobs_of_bulk and (u.place - 1) * v_job.bulk_max < u.size
        ) as r;
      perform graphile_worker.add_jobs(v_specs);
    end;
  end loop;
end;
$$;

comment on function brainops_internal.enqueue(text, uuid[], uuid[], timestamptz[], smallint[], text) is
  'Queues the graphile-worker jobs that wake rows of a job table, with the key <tenant_id>:<table>:<id> and p_key_suffix: one per row, and for rows of a bulk that are due together one per bulk_max rows, at most four. A suspect counts as outside any bulk. An existing job with the key is moved to the new time. The arrays have one entry per row, in the same order.';

alter function brainops_internal.enqueue(text, uuid[], uuid[], timestamptz[], smallint[], text)
owner to brainops_system;
revoke execute on function brainops_internal.enqueue(text, uuid[], uuid[], timestamptz[], smallint[], text) from public;

-- Claims run with a tenant's rights, which do not include graphile_worker.
create or replace function brainops_internal.enqueue_rows(p_table text, p_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables where table_name = p_table;
  execute format(
    'select brainops_internal.enqueue($1, array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority))
     from %s
     where id = any ($2) and tenant_id = $3 and status = ''pending''
     having count(*) > 0',
    v_job.relation
  )
    using p_table, p_ids, brainops.current_tenant_id();
end;
$$;

comment on function brainops_internal.enqueue_rows(text, uuid[]) is
  'Queues jobs for those of the rows that are pending and belong to the current tenant.';

alter function brainops_internal.enqueue_rows(text, uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.enqueue_rows(text, uuid[]) from public;
grant execute on function brainops_internal.enqueue_rows(text, uuid[]) to brainops_worker;

-- The job that named a row ends although another transaction held the row, so the row would have to wait for the sweep.
-- That transaction may be a client's that changes nothing which queues a job, or whose job was lost: add_jobs leaves out
-- a key that a worker fetches at the same moment. The key is one of its own, because add_jobs would wait for the
-- client's transaction where that has queued the row's job, while the claim holds locks that the client may want next.
create or replace function brainops_internal.enqueue_locked_rows(p_table text, p_ids uuid[])
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  -- Long for a client's transaction. A row that is held for longer costs a job each time.
  c_again_after constant interval := '5 seconds';
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables where table_name = p_table;
  execute format(
    'select brainops_internal.enqueue($1, array_agg(id order by id), array_agg(tenant_id), array_agg($4 + $5), array_agg(job_priority order by id), '':again'')
     from %s
     where id = any ($2) and tenant_id = $3 and status = ''pending'' and scheduled_for <= $4 %s
     having count(*) > 0',
    v_job.relation, case when v_job.bulk_column is null then '' else format('and (%I is null or worker_deaths >= 2)', v_job.bulk_column) end
  )
    using p_table, p_ids, brainops.current_tenant_id(), brainops.now(), c_again_after;
end;
$$;

comment on function brainops_internal.enqueue_locked_rows(text, uuid[]) is
  'Queues a second job, in five seconds, for those of the rows that are due, outside any bulk or suspects, and belong to the current tenant. For rows that a claim could not lock, and for suspects that a worker could not run. Bulk rows wait for their bulk''s next job or for the sweep.';

alter function brainops_internal.enqueue_locked_rows(text, uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.enqueue_locked_rows(text, uuid[]) from public;
grant execute on function brainops_internal.enqueue_locked_rows(text, uuid[]) to brainops_worker;

-- One statement for all keys: graphile_worker.remove_job scans the whole table for each key, which took most of a
-- minute for 20,000 keys. A job that a worker has fetched already stays, runs, and finds that its row is not due.
create or replace function brainops_internal.dequeue(p_keys text[])
returns void
language sql
security definer
set search_path = ''
as $$
  select graphile_worker.complete_jobs(array(select id from graphile_worker.jobs where key = any (p_keys)));
$$;

comment on function brainops_internal.dequeue(text[]) is
  'Removes the graphile-worker jobs with these keys, except those that a worker has fetched.';

alter function brainops_internal.dequeue(text[]) owner to brainops_system;
revoke execute on function brainops_internal.dequeue(text[]) from public;

-- Queues jobs for due rows that have none. Paused and suspended tenants are left out: their rows would only be held
-- again. The job of a single row is found by its key, that of a bulk by the bulk key in its payload.
--
-- Rows that another transaction has locked are left out: it may have queued their jobs already, and add_jobs would wait for
-- its end, with the rows of all tenants.
create or replace function brainops_internal.requeue(p_job brainops.job_tables, p_tenant_id uuid, p_most int)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_ids uuid[];
  v_tenant_ids uuid[];
  v_run_ats timestamptz[];
  v_priorities smallint[];
  v_count int;
begin
  execute format(
    $sql$
    with open_tenants as materialized (
      select id from public.tenants where ($4 is null or id = $4) and brainops_internal.pause_reason($2, id) is null
    )
    select array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority), count(*)
    from (
      (
        select t.id, t.tenant_id, t.scheduled_for, t.job_priority
        from %1$s as t
        inner join open_tenants as o on o.id = t.tenant_id
        where t.status = 'pending'
          and t.scheduled_for <= $1
          %2$s
          and not exists (
            select from graphile_worker.jobs as j
            where j.key = t.tenant_id || ':' || $2 || ':' || t.id and j.attempts < j.max_attempts
          )
        limit $3
      )
      union all
      select t.id, t.tenant_id, t.scheduled_for, t.job_priority from %1$s as t where t.id = any ($5)
    ) as s
    where exists (select from %1$s as t where t.id = s.id for no key update skip locked)
    $sql$,
    p_job.relation, case when p_job.bulk_column is null then '' else format('and (t.%I is null or t.worker_deaths >= 2)', p_job.bulk_column) end
  )
    into v_ids, v_tenant_ids, v_run_ats, v_priorities, v_count
    using
      brainops.now(), p_job.table_name, p_most, p_tenant_id,
      case when p_job.bulk_column is not null then brainops_internal.stranded_bulk_rows(p_job, p_tenant_id, p_most) end;
  if v_count > 0 then
    perform brainops_internal.enqueue(p_job.table_name, v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  return v_count;
end;
$$;

comment on function brainops_internal.requeue(brainops.job_tables, uuid, int) is
  'Queues jobs for due rows of a job table that have none, and one for each bulk that has none: of one tenant, or of all if p_tenant_id is null, at most p_most single rows and p_most bulks. Returns the number of jobs queued.';

revoke execute on function brainops_internal.requeue(brainops.job_tables, uuid, int) from public;
grant execute on function brainops_internal.requeue(brainops.job_tables, uuid, int) to brainops_system;

-- Rows that a claim held because their provider account could not be used have used up their jobs. This queues new ones
-- once a worker or a tenant has the credentials.
create or replace function brainops_internal.wake_rows(p_table text, p_tenant_id uuid default null)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  return brainops_internal.requeue(v_job, p_tenant_id, 10000);
end;
$$;

comment on function brainops_internal.wake_rows(text, uuid) is
  'Queues jobs for the due rows of a job table, after a provider account has become usable: of one tenant, or of all if p_tenant_id is null. At most 10,000; the sweep queues the rest. Returns the number of jobs queued.';

revoke execute on function brainops_internal.wake_rows(text, uuid) from public;
grant execute on function brainops_internal.wake_rows(text, uuid) to brainops_system;
