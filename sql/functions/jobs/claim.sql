-- The job-row engine, second half: claim and settle, each one call in one short transaction as
-- the tenant (role brainops_worker), and the function that makes a table a job table.
--
-- Between the two no transaction is open and no lock is held: the lease, a uuid that only the
-- claimer knows, is what makes a settle count. A late or second settler changes nothing.
--
-- The engine, third part: tenants' own accounts with their own breakers, and effects that carry
-- many rows at once.
--
-- Rows that share a batch (job_tables.bulk_column) may go out in one call: a claim of one brings
-- along what else of its batch is due. Each stays a row of its own, with its own verdict of the
-- gate, outcome and events. Old workers go on with what they know; they fail rows of broadcasts,
-- so let them stop before the first one is launched.
--
-- Lock order as ever: job rows (skip locked), the gate's keys, graphile-worker's jobs.

-- Locks what of p_ids is due, asks the gates, and writes processing, a fresh lease and
-- attempts + 1 on the rows that go. Rows that another claim holds, or that are not due any more,
-- are left out of the answer.
create or replace function brainops_internal.claim(
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
set random_page_cost = 1 -- as in brainops_internal.settle
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
  v_batch := case when v_job.bulk_column is null then 'null::uuid' else format('t.%I', v_job.bulk_column) end;

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
  v_sender := brainops_internal.account_of(v_job.sender, v_tenant_id);
  v_reason := coalesce(
    brainops_internal.pause_reason(p_table, v_tenant_id),
    case when v_sender = v_job.sender then p_lacks_platform else p_lacks_own end
  );
  if v_reason is not null then
    select array_agg(row(i, 'hold', null, v_reason)::brainops.verdict) into v_verdicts from unnest(v_ids) as i;
    v_ids := '{}';
  end if;

  if p_batches and v_job.bulk_column is not null and v_ids <> '{}' then
    select b.ids, b.in_slot, b.next_ids into v_brought, v_more_in_slot, v_next
      from brainops_internal.lock_bulk_rows(v_job, v_tenant_id, v_ids, v_now, c_slot_kept) as b;
    v_ids := v_ids || v_brought;
    v_in_slot := v_in_slot || v_more_in_slot;
    -- Whatever becomes of these rows, the batch goes on.
    if v_next <> '{}' then
      perform brainops_internal.enqueue_rows(p_table, v_next);
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
    v_slots := case when v_rest <> '{}' then brainops_internal.reserve_rate_slots(p_table, v_tenant_id, cardinality(v_rest)) end;
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
      from brainops_internal.acquire_breaker(v_sender, cardinality(v_ids), v_job.time_limit + interval '10 seconds') as b;
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

comment on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean) is
  'Claims the due rows among the ids for a worker. outcome: go (with a lease), skip, fail, defer, slot or hold; a row that is not due or held elsewhere is left out. p_batches: rows of the same batch that are due come along. p_lacks_platform, p_lacks_own: why the worker cannot use the installation''s account, or a tenant''s own; null where it can.';

revoke execute on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean) from public;
grant execute
on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean)
to brainops_worker, brainops_system;

-- Locks what else is due of the batches that p_ids (locked already) belong to, up to bulk_max in
-- all. In the order in which they were due: who waits longest goes first.
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
         order by scheduled_for
         limit $5
         for update skip locked
       ) as s',
      p_job.relation, p_job.bulk_column
    )
      into v_found
      using p_tenant_id, v_batch.id, p_now, p_ids, v_take + v_batch.next, p_slot_kept;
    ids := ids || v_found.ids[:v_take];
    in_slot := in_slot || v_found.in_slot;
    next_ids := next_ids || v_found.ids[v_take + 1:];
  end loop;
end;
$$;

comment on function brainops_internal.lock_bulk_rows(brainops.job_tables, uuid, uuid[], timestamptz, interval) is
  'Locks what else is due of the batches of rows that a claim names; in_slot: those that come back to the slot of a rate limit; next_ids: due rows that are left behind, as many as the claim names, four at most.';

revoke execute
on function brainops_internal.lock_bulk_rows(brainops.job_tables, uuid, uuid[], timestamptz, interval)
from public;
grant execute
on function brainops_internal.lock_bulk_rows(brainops.job_tables, uuid, uuid[], timestamptz, interval)
to brainops_worker, brainops_system;

-- The first due row of each batch that has due rows and no job. The batches are walked through by
-- their index, one step each, however many rows they have.
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
  'The first due row of each batch that has due rows, no job and no pause: of one tenant, or (null) of all, at most p_most.';

revoke execute on function brainops_internal.stranded_bulk_rows(brainops.job_tables, uuid, int) from public;
grant execute on function brainops_internal.stranded_bulk_rows(brainops.job_tables, uuid, int) to brainops_system;

-- A function in SQL is planned anew at each call (up to Postgres 17), and each claim calls this one: a tenth of a
-- millisecond of two. In PL/pgSQL its plan is kept; and tables without a sender need not look at all.
--
-- The circuit breaker that a tenant's rows go through: the installation's account is known by the
-- sender's name alone, a tenant's own by sender:tenant. One tenant's trouble holds up no other.
create or replace function brainops_internal.account_of(p_sender text, p_tenant_id uuid)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if p_sender is null then
    return null;
  end if;
  if exists (
    select from public.provider_credentials as c
    where c.tenant_id = p_tenant_id and c.provider = p_sender and c.name = 'default' and c.active
  ) then
    return p_sender || ':' || p_tenant_id;
  end if;
  return p_sender;
end;
$$;

comment on function brainops_internal.account_of(text, uuid) is
  'Which account a tenant''s rows go through, as brainops.breakers names it: sender for the installation''s, sender:tenant_id for the tenant''s own.';

revoke execute on function brainops_internal.account_of(text, uuid) from public;
grant execute on function brainops_internal.account_of(text, uuid) to brainops_worker, brainops_system;

-- By the lease alone: nobody heard which rows the lost claim brought along.
create or replace function brainops_internal.unclaim(p_table text, p_ids uuid[], p_lease uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  -- First the lock: the lost claim's commit may still be under way, and its outcome decides.
  execute format('select from %s where id = any ($1) order by id for update', v_job.relation) using p_ids;
  execute format(
    'update %s set status = ''pending'', attempts = attempts - 1, lease = null, worker_id = null
     where status = ''processing'' and lease = $1',
    v_job.relation
  )
    using p_lease;
end;
$$;

comment on function brainops_internal.unclaim(text, uuid[], uuid) is
  'Gives rows back that a worker claimed without hearing so; only for rows whose effect has not begun.';

revoke execute on function brainops_internal.unclaim(text, uuid[], uuid) from public;
grant execute on function brainops_internal.unclaim(text, uuid[], uuid) to brainops_worker;
