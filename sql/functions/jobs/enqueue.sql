-- The engine, fourth part: what a broadcast to a million costs.
--
-- Rows of one batch share their alarm clocks: a claim of one brings the others along, so one job for
-- each thousand is enough, and four at most for each statement; a claim that leaves due rows behind
-- sets a job for one of them before it ends. A batch that has due rows and no job at all is found by
-- the sweep, as any row is.

-- Gives rows their jobs, in one add_jobs. Fairness as in sql/0003: levels by a tenant's waiting rows,
-- of which those without a job of their own count as well.
create or replace function brainops_internal.enqueue(
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
  -- So that the claims of several workers and the sending overlap; more would only wait for each other.
  c_jobs_of_batch constant int := 4;
  v_job brainops.job_tables;
  v_batches uuid[];
  v_tenant record;
  v_specs graphile_worker.job_spec[];
begin
  select * into strict v_job from brainops.job_tables where table_name = p_table;
  if v_job.bulk_column is not null then
    execute format(
      'select array_agg(t.%I order by u.n)
       from unnest($1) with ordinality as u (id, n)
       left join %s as t on t.id = u.id',
      v_job.bulk_column, v_job.relation
    )
      into v_batches
      using p_ids;
  end if;

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
          case
            when r.batch is null then json_build_object('id', r.id, 'tenant_id', r.tenant_id)
            else json_build_object('id', r.id, 'tenant_id', r.tenant_id, 'batch', r.batch)
          end,
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
          select u.*, row_number() over (order by u.n)::int as rank
          from (
            select
              i.*,
              row_number() over (partition by i.batch, i.run_at, i.priority order by i.n) as place,
              count(*) over (partition by i.batch, i.run_at, i.priority) as size
            from unnest(p_ids, p_tenant_ids, p_run_ats, p_priorities, v_batches)
              with ordinality as i (id, tenant_id, run_at, priority, batch, n)
            where i.tenant_id = v_tenant.tenant_id
          ) as u
          where u.batch is null or u.place <= c_jobs_of_batch and (u.place - 1) * v_job.bulk_max < u.size
        ) as r;
      perform graphile_worker.add_jobs(v_specs);
    end;
  end loop;
end;
$$;

comment on function brainops_internal.enqueue(text, uuid[], uuid[], timestamptz[], smallint[]) is
  'Gives the rows their graphile-worker jobs, key <tenant_id>:<table>:<id>: one each, and for rows of a batch that are due together one for bulk_max of them, four at most. A job that is there already is moved.';

alter function brainops_internal.enqueue(text, uuid[], uuid[], timestamptz[], smallint[]) owner to brainops_system;
revoke execute on function brainops_internal.enqueue(text, uuid[], uuid[], timestamptz[], smallint[]) from public;

-- For claims, which run with a tenant's rights.
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

comment on function brainops_internal.enqueue_rows(text, uuid[]) is 'Sets jobs for pending rows of the current tenant.';

alter function brainops_internal.enqueue_rows(text, uuid[]) owner to brainops_system;
revoke execute on function brainops_internal.enqueue_rows(text, uuid[]) from public;
grant execute on function brainops_internal.enqueue_rows(text, uuid[]) to brainops_worker;

-- Takes jobs away, all in one statement: graphile_worker.remove_job costs a scan of the whole table
-- for each key, which for 20,000 keys took most of a minute. A job that a worker has fetched already stays, runs, and
-- finds that its row is not due.
create or replace function brainops_internal.dequeue(p_keys text[])
returns void
language sql
security definer
set search_path = ''
as $$
  select graphile_worker.complete_jobs(array(select id from graphile_worker.jobs where key = any (p_keys)));
$$;

comment on function brainops_internal.dequeue(text[]) is
  'Takes the graphile-worker jobs with these keys away, but for those that a worker has fetched.';

alter function brainops_internal.dequeue(text[]) owner to brainops_system;
revoke execute on function brainops_internal.dequeue(text[]) from public;

-- Gives due rows their jobs that have none: of one tenant, or of all that nothing stands in the
-- way of. At most p_most; returns how many.
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
    $sql$,
    p_job.relation, case when p_job.bulk_column is null then '' else format('and t.%I is null', p_job.bulk_column) end
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
  'Jobs for due rows that have none, one for all of a batch, at most p_most: of one tenant, or (null) of all; returns how many jobs.';

revoke execute on function brainops_internal.requeue(brainops.job_tables, uuid, int) from public;
grant execute on function brainops_internal.requeue(brainops.job_tables, uuid, int) to brainops_system;

-- What a claim held back, for want of an account to go through, has lost its job.
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
  'Sets the due rows of a table going that waited for an account: of one tenant, or (null) of all. 10,000 at once; the sweep brings the rest.';

revoke execute on function brainops_internal.wake_rows(text, uuid) from public;
grant execute on function brainops_internal.wake_rows(text, uuid) to brainops_system;
