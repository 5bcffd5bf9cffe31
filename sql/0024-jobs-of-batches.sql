-- The engine, fourth part: what a broadcast to a million costs.
--
-- Rows of one batch share their alarm clocks: a claim of one brings the others along, so one job for
-- each thousand is enough, and four at most for each statement; a claim that leaves due rows behind
-- sets a job for one of them before it ends. A batch that has due rows and no job at all is found by
-- the sweep, as any row is.
--
-- Old workers go on with what they know; they claim by the same functions.
set local lock_timeout = '2s';

------------------------------------------------------------------------------------------------
-- Jobs

-- Gives rows their jobs, in one add_jobs. Fairness as in sql/0003: levels by a tenant's waiting rows,
-- of which those without a job of their own count as well.
create or replace function brainops.enqueue(
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
  if v_job.batch_column is not null then
    execute format(
      'select array_agg(t.%I order by u.n)
       from unnest($1) with ordinality as u (id, n)
       left join %s as t on t.id = u.id',
      v_job.batch_column, v_job.relation
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
          where u.batch is null or u.place <= c_jobs_of_batch and (u.place - 1) * v_job.batch_most < u.size
        ) as r;
      perform graphile_worker.add_jobs(v_specs);
    end;
  end loop;
end;
$$;

comment on function brainops.enqueue(text, uuid[], uuid[], timestamptz[], smallint[]) is
  'Gives the rows their graphile-worker jobs, key <tenant_id>:<table>:<id>: one each, and for rows of a batch that are due together one for batch_most of them, four at most. A job that is there already is moved.';

-- For claims, which run with a tenant's rights.
create function brainops.enqueue_rows(p_table text, p_ids uuid[])
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
    'select brainops.enqueue($1, array_agg(id), array_agg(tenant_id), array_agg(scheduled_for), array_agg(job_priority))
     from %s
     where id = any ($2) and tenant_id = $3 and status = ''pending''
     having count(*) > 0',
    v_job.relation
  )
    using p_table, p_ids, brainops.current_tenant_id();
end;
$$;

comment on function brainops.enqueue_rows(text, uuid[]) is 'Sets jobs for pending rows of the current tenant.';

alter function brainops.enqueue_rows(text, uuid[]) owner to brainops_system;

-- One pass over the changed rows: each is asked once what it means for the record and for its job.
create or replace function brainops.after_job_update()
returns trigger
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_table constant text := brainops.job_table_name(tg_table_schema, tg_table_name);
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
    perform brainops.enqueue(c_table, v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  if v_keys is not null then
    perform brainops.dequeue(v_keys);
  end if;
  return null;
end;
$$;

-- The first due row of each batch that has due rows and no job. The batches are walked through by
-- their index, one step each, however many rows they have.
create function brainops.stranded_batches(p_job brainops.job_tables, p_tenant_id uuid, p_most int)
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
    with recursive batches as (
      (
        select tenant_id, %1$I as batch from %2$s
        where %1$I is not null and ($3 is null or tenant_id = $3)
        order by tenant_id, %1$I
        limit 1
      )
      union all
      select n.tenant_id, n.batch
      from batches as b
      cross join lateral (
        select t.tenant_id, t.%1$I as batch from %2$s as t
        where t.%1$I is not null and ($3 is null or t.tenant_id = $3) and (t.tenant_id, t.%1$I) > (b.tenant_id, b.batch)
        order by t.tenant_id, t.%1$I
        limit 1
      ) as n
    ),
    rung as materialized (
      select distinct j.payload ->> 'batch' as batch
      from graphile_worker._private_jobs as j
      inner join graphile_worker._private_tasks as k on k.id = j.task_id
      where k.identifier = $2 and j.attempts < j.max_attempts and j.payload ->> 'batch' is not null
        -- One that is set for later rings for what is due then.
        and (j.run_at <= $1 or j.locked_at is not null)
    )
    select array_agg(f.id)
    from (
      select d.id
      from batches as b
      cross join lateral (
        select t.id from %2$s as t
        where t.tenant_id = b.tenant_id and t.%1$I = b.batch and t.status = 'pending' and t.scheduled_for <= $1
        order by t.scheduled_for
        limit 1
      ) as d
      where b.batch::text not in (select r.batch from rung as r)
        and brainops.pause_reason($5, b.tenant_id) is null
      limit $4
    ) as f
    $sql$,
    p_job.batch_column, p_job.relation
  )
    into v_ids
    using brainops.now(), p_job.task_identifier, p_tenant_id, p_most, p_job.table_name;
  return v_ids;
end;
$$;

comment on function brainops.stranded_batches(brainops.job_tables, uuid, int) is
  'The first due row of each batch that has due rows, no job and no pause: of one tenant, or (null) of all, at most p_most.';

create or replace function brainops.requeue(p_job brainops.job_tables, p_tenant_id uuid, p_most int)
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
      select id from public.tenants where ($4 is null or id = $4) and brainops.pause_reason($2, id) is null
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
    p_job.relation, case when p_job.batch_column is null then '' else format('and t.%I is null', p_job.batch_column) end
  )
    into v_ids, v_tenant_ids, v_run_ats, v_priorities, v_count
    using
      brainops.now(), p_job.table_name, p_most, p_tenant_id,
      case when p_job.batch_column is not null then brainops.stranded_batches(p_job, p_tenant_id, p_most) end;
  if v_count > 0 then
    perform brainops.enqueue(p_job.table_name, v_ids, v_tenant_ids, v_run_ats, v_priorities);
  end if;
  return v_count;
end;
$$;

comment on function brainops.requeue(brainops.job_tables, uuid, int) is
  'Jobs for due rows that have none, one for all of a batch, at most p_most: of one tenant, or (null) of all; returns how many jobs.';

------------------------------------------------------------------------------------------------
-- Claim

drop function brainops.lock_batches(brainops.job_tables, uuid, uuid[], timestamptz, interval);

-- Locks what else is due of the batches that p_ids (locked already) belong to, up to batch_most in
-- all. In the order in which they were due: who waits longest goes first.
create function brainops.lock_batches(
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
  v_batch record;
  v_found record;
  v_take int;
begin
  ids := '{}';
  in_slot := '{}';
  next_ids := '{}';
  for v_batch in
    execute format(
      'select %1$I as id, least(count(*), $2)::int as next
       from %2$s
       where id = any ($1) and %1$I is not null
       group by 1',
      p_job.batch_column, p_job.relation
    )
    using p_ids, c_most_next
  loop
    v_take := greatest(p_job.batch_most - cardinality(p_ids), 0);
    execute format(
      'select coalesce(array_agg(s.id order by s.scheduled_for), ''{}'') as ids,
         coalesce(array_agg(s.id) filter (where s.rate_slot between $3 - $6 and $3), ''{}'') as in_slot
       from (
         select id, scheduled_for, rate_slot from %s
         where tenant_id = $1 and %I = $2 and status = ''pending'' and scheduled_for <= $3 and id <> all ($4)
         order by scheduled_for
         limit $5
         for update skip locked
       ) as s',
      p_job.relation, p_job.batch_column
    )
      into v_found
      using p_tenant_id, v_batch.id, p_now, p_ids, v_take + v_batch.next, p_slot_kept;
    ids := ids || v_found.ids[:v_take];
    in_slot := in_slot || v_found.in_slot;
    next_ids := next_ids || v_found.ids[v_take + 1:];
  end loop;
end;
$$;

comment on function brainops.lock_batches(brainops.job_tables, uuid, uuid[], timestamptz, interval) is
  'Locks what else is due of the batches of rows that a claim names; in_slot: those that come back to the slot of a rate limit; next_ids: due rows that are left behind, as many as the claim names, four at most.';

-- Locks what of p_ids is due, asks the gates, and writes processing, a fresh lease and
-- attempts + 1 on the rows that go. Rows that another claim holds, or that are not due any more,
-- are left out of the answer.
create or replace function brainops.claim(
  p_table text,
  p_ids uuid[],
  p_worker_id uuid,
  p_lease uuid default gen_random_uuid(),
  p_lacks_platform text default null,
  p_lacks_own text default null,
  p_batches boolean default false
)
returns table (id uuid, outcome text, lease uuid, attempt int, reason text, sender text, batch uuid)
language plpgsql
set search_path = ''
set random_page_cost = 1 -- as in brainops.settle
as $$
declare
  -- A slot that was not used within this time is void. So what has stood still (a pause, no
  -- worker) bursts with five seconds' worth of its rate at most; a worker that is late by more
  -- makes the row wait for another slot.
  c_slot_kept constant interval := '5 seconds';
  v_job brainops.job_tables;
  v_tenant_id uuid;
  v_ids uuid[];
  v_now timestamptz := brainops.now();
  v_in_slot uuid[];
  v_rest uuid[];
  v_slots timestamptz[];
  v_sender text;
  v_reason text;
  v_allowed int;
  v_ask_at timestamptz;
  v_verdicts brainops.verdict[] := '{}';
  v_more brainops.verdict[];
  v_batch text;
  v_brought uuid[] := '{}';
  v_more_in_slot uuid[];
  v_next uuid[];
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  v_tenant_id := brainops.current_tenant_id();
  v_batch := case when v_job.batch_column is null then 'null::uuid' else format('t.%I', v_job.batch_column) end;

  execute format(
    'select
       array_agg(s.id order by s.job_priority, s.scheduled_for, s.id),
       coalesce(array_agg(s.id) filter (where s.rate_slot between $2 - $3 and $2), ''{}'')
     from (
       select id, job_priority, scheduled_for, rate_slot from %s
       -- Spelled so that only the ids lead to the rows: one of pending rows would be read from end to end.
       where id = any ($1) and case when status = ''pending'' then scheduled_for <= $2 else false end
       for update skip locked
     ) as s',
    v_job.relation
  )
    into v_ids, v_in_slot
    using p_ids, v_now, c_slot_kept;
  if v_ids is null then
    return;
  end if;

  -- A standstill comes first: nothing is decided about a row that may not move.
  v_sender := brainops.sender_of(v_job.sender, v_tenant_id);
  v_reason := coalesce(
    brainops.pause_reason(p_table, v_tenant_id),
    case when v_sender = v_job.sender then p_lacks_platform else p_lacks_own end
  );
  if v_reason is not null then
    select array_agg(row(i, 'hold', null, v_reason)::brainops.verdict) into v_verdicts from unnest(v_ids) as i;
    v_ids := '{}';
  end if;

  if p_batches and v_job.batch_column is not null and v_ids <> '{}' then
    select b.ids, b.in_slot, b.next_ids into v_brought, v_more_in_slot, v_next
      from brainops.lock_batches(v_job, v_tenant_id, v_ids, v_now, c_slot_kept) as b;
    v_ids := v_ids || v_brought;
    v_in_slot := v_in_slot || v_more_in_slot;
    -- Whatever becomes of these rows, the batch goes on.
    if v_next <> '{}' then
      perform brainops.enqueue_rows(p_table, v_next);
    end if;
  end if;

  if v_job.gate is not null and v_ids <> '{}' then
    execute format('select coalesce(array_agg(g), ''{}'') from %s($1) as g', v_job.gate)
      into v_more
      using v_ids;
    v_verdicts := v_verdicts || v_more;
    select coalesce(array_agg(i order by n), '{}') into v_ids
      from unnest(v_ids) with ordinality as u (i, n)
      where i not in (select (v).id from unnest(v_more) as v);
  end if;

  if v_ids <> '{}' and exists (select from brainops.rate_limits as r where r.table_name = p_table) then
    -- Rows that come back to the slot they were given pass; the others take one.
    select coalesce(array_agg(i order by n), '{}') into v_rest
      from unnest(v_ids) with ordinality as u (i, n)
      where i <> all (v_in_slot);
    v_slots := case when v_rest <> '{}' then brainops.take_rate_slots(p_table, v_tenant_id, cardinality(v_rest)) end;
    if v_slots is not null then
      select coalesce(array_agg(row(i, 'slot', v_slots[n], 'rate limit')::brainops.verdict), '{}') into v_more
        from unnest(v_rest) with ordinality as u (i, n)
        where v_slots[n] > v_now;
      v_verdicts := v_verdicts || v_more;
      select coalesce(array_agg(i order by n), '{}') into v_ids
        from unnest(v_ids) with ordinality as u (i, n)
        where i not in (select (v).id from unnest(v_more) as v);
    end if;
  end if;

  -- Last, because a probe that it allows must really go.
  if v_sender is not null and v_ids <> '{}' then
    select b.allowed, b.ask_at into v_allowed, v_ask_at
      from brainops.ask_breaker(v_sender, cardinality(v_ids), v_job.time_limit + interval '10 seconds') as b;
    if v_allowed < cardinality(v_ids) then
      select array_agg(row(i, 'defer', v_ask_at + random() * interval '2 seconds', 'circuit breaker of ' || v_sender || ' is open')::brainops.verdict)
        into v_more
        from unnest(v_ids[v_allowed + 1:]) as i;
      v_verdicts := v_verdicts || v_more;
      v_ids := v_ids[:v_allowed];
    end if;
  end if;

  if v_verdicts <> '{}' then
    return query execute format(
      'update %s as t
       set
         status = case v.outcome when ''skip'' then ''skipped'' when ''fail'' then ''failed'' else t.status end,
         scheduled_for = case when v.outcome in (''defer'', ''slot'') then v.until else t.scheduled_for end,
         rate_slot = case when v.outcome = ''slot'' then v.until end,
         finished_at = case when v.outcome in (''skip'', ''fail'') then $2 end,
         skip_reason = case when v.outcome = ''skip'' then v.reason end,
         last_error = case when v.outcome = ''skip'' then t.last_error else v.reason end
       from unnest($1) as v
       where t.id = v.id
       returning t.id, v.outcome, null::uuid, t.attempts, v.reason, $3, %s',
      v_job.relation, v_batch
    )
      using v_verdicts, v_now, v_sender;
  end if;

  if v_ids <> '{}' then
    return query execute format(
      'update %s as t
       set
         status = ''processing'',
         lease = $4,
         worker_id = $2,
         attempts = t.attempts + 1,
         started_at = $3
       where t.id = any ($1)
       returning t.id, ''go'', t.lease, t.attempts, null::text, $5, %s',
      v_job.relation, v_batch
    )
      using v_ids, p_worker_id, v_now, p_lease, v_sender;
  end if;
end;
$$;

------------------------------------------------------------------------------------------------
-- Indexes: each of a row's three versions writes an entry to each of them

-- One for both: who was written to lately (the caps), and everything of an address (bounces that
-- name nothing else, a person's rights).
drop index public.ai_email_queue_recipient;
drop index public.ai_email_queue_contacted_address;
create index ai_email_queue_recipient on public.ai_email_queue (recipient_key, tenant_id, started_at);

-- Nothing refers to mails by this pair; the key finds them.
alter table public.ai_email_queue drop constraint ai_email_queue_tenant_row;

-- Jobs of rows that a claim brought along are few now: they ring, and find that their row is gone.
drop function brainops.dequeue_rows(text, uuid[]);

revoke execute
on function brainops.enqueue_rows(text, uuid[]),
brainops.stranded_batches(brainops.job_tables, uuid, int),
brainops.lock_batches(brainops.job_tables, uuid, uuid[], timestamptz, interval)
from public;

grant execute
on function brainops.enqueue_rows(text, uuid[]),
brainops.lock_batches(brainops.job_tables, uuid, uuid[], timestamptz, interval)
to brainops_worker, brainops_system;
grant execute on function brainops.stranded_batches(brainops.job_tables, uuid, int) to brainops_system;
