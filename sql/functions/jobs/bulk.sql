-- Bulk: rows that may go out in one provider call, such as the recipients of a broadcast. They have the same value in
-- the column that job_tables.bulk_column names. Start at lock_bulk_rows, which a claim calls (claim.sql).
--
-- The rows of a bulk share graphile-worker jobs (enqueue.sql): a claim that leaves due rows behind queues the next job,
-- and the sweep finds bulks that have due rows and no job. A suspect is left out of its bulk, and has a job of its own.

-- Locks other due rows of the bulks that p_ids (locked already) belong to, so that the claim has at most bulk_max rows
-- of each bulk. Rows that have been due the longest go first.
create or replace function brainops_internal.lock_bulk_rows(
  p_job brainops.job_tables,
  p_tenant_id uuid,
  p_ids uuid[],
  p_now timestamptz,
  p_slot_kept interval,
  out ids uuid[],
  out in_slot uuid[],
  out next_ids uuid[]
)
returns record
language plpgsql
set search_path = ''
as $$
declare
  c_most_next constant int := 4;
  v_bulk record;
  v_found record;
  v_take int;
begin
  ids := '{}';
  in_slot := '{}';
  next_ids := '{}';
  for v_bulk in
    execute format(
      'select %1$I as id, least(count(*), $2)::int as next
       from %2$s
       where id = any ($1) and %1$I is not null
       group by 1',
      p_job.bulk_column, p_job.relation
    )
    using p_ids, c_most_next
  loop
    v_take := greatest(p_job.bulk_max - cardinality(p_ids), 0);
    execute format(
      'select coalesce(array_agg(s.id order by s.scheduled_for), ''{}'') as ids,
         coalesce(array_agg(s.id) filter (where s.rate_slot between $3 - $6 and $3), ''{}'') as in_slot
       from (
         select id, scheduled_for, rate_slot from %s
         where tenant_id = $1 and %I = $2 and status = ''pending'' and scheduled_for <= $3 and id <> all ($4)
           and worker_deaths < 2
         order by scheduled_for
         limit $5
         for update skip locked
       ) as s',
      p_job.relation, p_job.bulk_column
    )
      into v_found
      using p_tenant_id, v_bulk.id, p_now, p_ids, v_take + v_bulk.next, p_slot_kept;
    ids := ids || v_found.ids[:v_take];
    in_slot := in_slot || v_found.in_slot;
    next_ids := next_ids || v_found.ids[v_take + 1:];
  end loop;
end;
$$;

comment on function brainops_internal.lock_bulk_rows(brainops.job_tables, uuid, uuid[], timestamptz, interval) is
  'Locks other due rows of the bulks that the rows of a claim belong to. ids: the additional rows to claim. in_slot: those of the locked rows that return at their slot of a rate limit. next_ids: due rows that the claim leaves behind, for each bulk as many as the claim names, but at most four.';

revoke execute
on function brainops_internal.lock_bulk_rows(brainops.job_tables, uuid, uuid[], timestamptz, interval)
from public;
grant execute
on function brainops_internal.lock_bulk_rows(brainops.job_tables, uuid, uuid[], timestamptz, interval)
to brainops_worker, brainops_system;

-- The recursive query walks the index from bulk to bulk, one step each, however many rows a bulk has.
create or replace function brainops_internal.stranded_bulk_rows(p_job brainops.job_tables, p_tenant_id uuid, p_most int)
returns uuid[]
language plpgsql
stable
set search_path = ''
as $$
declare
  v_ids uuid[];
begin
  execute format(
    $sql$
    with recursive bulks as (
      (
        select tenant_id, %1$I as bulk from %2$s
        where %1$I is not null and ($3 is null or tenant_id = $3)
        order by tenant_id, %1$I
        limit 1
      )
      union all
      select n.tenant_id, n.bulk
      from bulks as b
      cross join lateral (
        select t.tenant_id, t.%1$I as bulk from %2$s as t
        where t.%1$I is not null and ($3 is null or t.tenant_id = $3) and (t.tenant_id, t.%1$I) > (b.tenant_id, b.bulk)
        order by t.tenant_id, t.%1$I
        limit 1
      ) as n
    ),
    queued as materialized (
      select distinct j.payload ->> 'batch' as bulk
      from graphile_worker._private_jobs as j
      inner join graphile_worker._private_tasks as k on k.id = j.task_id
      where k.identifier = $2 and j.attempts < j.max_attempts and j.payload ->> 'batch' is not null
        -- A job that runs later is for rows that are due later.
        and (j.run_at <= $1 or j.locked_at is not null)
    )
    select array_agg(f.id)
    from (
      select d.id
      from bulks as b
      cross join lateral (
        select t.id from %2$s as t
        where t.tenant_id = b.tenant_id and t.%1$I = b.bulk and t.status = 'pending' and t.scheduled_for <= $1 and t.worker_deaths < 2
        order by t.scheduled_for
        limit 1
      ) as d
      where b.bulk::text not in (select q.bulk from queued as q)
        and brainops_internal.pause_reason($5, b.tenant_id) is null
      limit $4
    ) as f
    $sql$,
    p_job.bulk_column, p_job.relation
  )
    into v_ids
    using brainops.now(), p_job.task_identifier, p_tenant_id, p_most, p_job.table_name;
  return v_ids;
end;
$$;

comment on function brainops_internal.stranded_bulk_rows(brainops.job_tables, uuid, int) is
  'The first due row, other than a suspect, of each bulk that has such rows, no job and no pause: of one tenant, or of all if p_tenant_id is null, at most p_most. Null without such a row.';

revoke execute on function brainops_internal.stranded_bulk_rows(brainops.job_tables, uuid, int) from public;
grant execute on function brainops_internal.stranded_bulk_rows(brainops.job_tables, uuid, int) to brainops_system;
