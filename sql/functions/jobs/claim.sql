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
  p_missing_platform text default null,
  p_missing_tenant text default null,
  p_bulk boolean default false
)
returns table (id uuid, outcome text, lease uuid, attempt int, reason text, account text, bulk uuid)
language plpgsql
set search_path = ''
set random_page_cost = 1 -- as in brainops_internal.settle
as $$
declare
  -- An unused slot of a rate limit expires after this time. So rows that waited for something else (a pause, no
  -- worker) burst with five seconds' worth of the rate at most; a worker that is later than that makes the row
  -- wait for another slot.
  c_slot_kept constant interval := '5 seconds';
  v_job brainops.job_tables;
  v_tenant_id uuid := brainops.current_tenant_id();
  v_now timestamptz := brainops.now();
  v_ids uuid[];
  v_in_slot uuid[];
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  execute format(
    'select
       array_agg(s.id order by s.job_priority, s.scheduled_for, s.id),
       coalesce(array_agg(s.id) filter (where s.rate_slot between $2 - $3 and $2), ''{}'')
     from (
       select id, job_priority, scheduled_for, rate_slot from %s
       -- Written so that only the ids lead to the rows: an index on pending rows would be read from end to end.
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

  return query
    select c.*
    from brainops_internal.accounts_of(v_job, v_tenant_id, v_ids) as a
    cross join lateral brainops_internal.claim_through(
      v_job, v_tenant_id, a.account, a.ids, v_in_slot, c_slot_kept, v_now, p_worker_id, p_lease,
      case when a.account = v_job.provider then p_missing_platform else p_missing_tenant end, p_bulk
    ) as c;
end;
$$;

comment on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean) is
  'Claims the due rows among the ids for a worker. outcome: go (with a lease), skip, fail, defer, slot or hold. A row that is not due, or is locked by another transaction, is left out. p_bulk: other due rows with the same bulk key are claimed too. p_missing_platform, p_missing_tenant: why the worker cannot use the platform''s account, or a tenant''s own; null if it can.';

revoke execute on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean) from public;
grant execute
on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean)
to brainops_worker, brainops_system;

-- The second half of claim: decides about locked rows that go through one provider account, and writes what was
-- decided. Asked in this order: pause and credentials, gate, rate limit, breaker. Each takes its rows out of v_ids.
create or replace function brainops_internal.claim_through(
  p_job brainops.job_tables,
  p_tenant_id uuid,
  p_account text,
  p_ids uuid[],
  p_in_slot uuid[],
  p_slot_kept interval,
  p_now timestamptz,
  p_worker_id uuid,
  p_lease uuid,
  p_missing text,
  p_bulk boolean
)
returns table (id uuid, outcome text, lease uuid, attempt int, reason text, account text, bulk uuid)
language plpgsql
set search_path = ''
set random_page_cost = 1 -- as in brainops_internal.settle
as $$
declare
  v_ids uuid[] := p_ids;
  v_in_slot uuid[] := p_in_slot;
  v_verdicts brainops.verdict[] := '{}';
  v_more brainops.verdict[];
  v_reason text;
  v_brought record;
  v_rest uuid[];
  v_slots timestamptz[];
  v_breaker record;
  v_bulk text := case when p_job.bulk_column is null then 'null::uuid' else format('t.%I', p_job.bulk_column) end;
begin
  -- A pause comes first: nothing is decided about a row that may not move.
  v_reason := coalesce(brainops_internal.pause_reason(p_job.table_name, p_tenant_id), p_missing);
  if v_reason is not null then
    select array_agg(row(i, 'hold', null, v_reason)::brainops.verdict) into v_verdicts from unnest(v_ids) as i;
    v_ids := '{}';
  end if;

  if p_bulk and p_job.bulk_column is not null and v_ids <> '{}' then
    v_brought := brainops_internal.lock_bulk_rows(p_job, p_tenant_id, v_ids, p_now, p_slot_kept);
    v_ids := v_ids || v_brought.ids;
    v_in_slot := v_in_slot || v_brought.in_slot;
    -- Due rows that are left behind need a job of their own, whatever is decided about these.
    if v_brought.next_ids <> '{}' then
      perform brainops_internal.enqueue_rows(p_job.table_name, v_brought.next_ids);
    end if;
  end if;

  if p_job.gate is not null and v_ids <> '{}' then
    execute format('select coalesce(array_agg(g), ''{}'') from %s($1) as g', p_job.gate)
      into v_more
      using v_ids;
    v_verdicts := v_verdicts || v_more;
    v_ids := brainops_internal.ids_without(v_ids, v_more);
  end if;

  if v_ids <> '{}' and exists (select from brainops.rate_limits as r where r.table_name = p_job.table_name) then
    -- Rows that return for the slot they were given pass; the others take one.
    select coalesce(array_agg(i order by n), '{}') into v_rest
      from unnest(v_ids) with ordinality as u (i, n)
      where i <> all (v_in_slot);
    v_slots := case when v_rest <> '{}' then brainops_internal.reserve_rate_slots(p_job.table_name, p_tenant_id, cardinality(v_rest)) end;
    if v_slots is not null then
      select coalesce(array_agg(row(i, 'slot', v_slots[n], 'rate limit')::brainops.verdict), '{}') into v_more
        from unnest(v_rest) with ordinality as u (i, n)
        where v_slots[n] > p_now;
      v_verdicts := v_verdicts || v_more;
      v_ids := brainops_internal.ids_without(v_ids, v_more);
    end if;
  end if;

  -- Last, because a probe that the breaker allows must really be sent.
  if p_account is not null and v_ids <> '{}' then
    v_breaker := brainops_internal.acquire_breaker(p_account, cardinality(v_ids), p_job.time_limit + interval '10 seconds');
    if v_breaker.allowed < cardinality(v_ids) then
      select array_agg(row(i, 'defer', v_breaker.ask_at + random() * interval '2 seconds', 'circuit breaker of ' || p_account || ' is open')::brainops.verdict)
        into v_more
        from unnest(v_ids[v_breaker.allowed + 1:]) as i;
      v_verdicts := v_verdicts || v_more;
      v_ids := v_ids[:v_breaker.allowed];
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
      p_job.relation, v_bulk
    )
      using v_verdicts, p_now, p_account;
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
      p_job.relation, v_bulk
    )
      using v_ids, p_worker_id, p_now, p_lease, p_account;
  end if;
end;
$$;

comment on function brainops_internal.claim_through(
  brainops.job_tables,
  uuid,
  text,
  uuid[],
  uuid[],
  interval,
  timestamptz,
  uuid,
  uuid,
  text,
  boolean
) is
  'Behind claim: the same result, for locked rows of one provider account (null: the table has no provider). p_in_slot: rows that return for a rate limit''s slot not older than p_slot_kept. p_missing: why the worker cannot use the account; null if it can.';

revoke execute
on function brainops_internal.claim_through(
  brainops.job_tables,
  uuid,
  text,
  uuid[],
  uuid[],
  interval,
  timestamptz,
  uuid,
  uuid,
  text,
  boolean
)
from public;
grant execute
on function brainops_internal.claim_through(
  brainops.job_tables,
  uuid,
  text,
  uuid[],
  uuid[],
  interval,
  timestamptz,
  uuid,
  uuid,
  text,
  boolean
)
to brainops_worker, brainops_system;

create or replace function brainops_internal.ids_without(p_ids uuid[], p_verdicts brainops.verdict[])
returns uuid[]
language plpgsql
immutable
set search_path = ''
as $$
begin
  if p_verdicts = '{}' then
    return p_ids;
  end if;
  return coalesce(
    (
      select array_agg(i order by n)
      from unnest(p_ids) with ordinality as u (i, n)
      where i not in (select (v).id from unnest(p_verdicts) as v)
    ),
    '{}'
  );
end;
$$;

comment on function brainops_internal.ids_without(uuid[], brainops.verdict[]) is
  'The ids without those that a verdict names, in their order.';

revoke execute on function brainops_internal.ids_without(uuid[], brainops.verdict[]) from public;
grant execute on function brainops_internal.ids_without(uuid[], brainops.verdict[]) to brainops_worker, brainops_system;

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
create or replace function brainops_internal.account_of(p_provider text, p_tenant_id uuid)
returns text
language plpgsql
stable
set search_path = ''
as $$
begin
  if p_provider is null then
    return null;
  end if;
  if exists (
    select from public.provider_credentials as c
    where c.tenant_id = p_tenant_id and c.provider = p_provider and c.name = 'default' and c.active
  ) then
    return p_provider || ':' || p_tenant_id;
  end if;
  return p_provider;
end;
$$;

comment on function brainops_internal.account_of(text, uuid) is
  'The account that a tenant uses with a provider, as brainops.breakers names it: the provider''s name for the platform''s account, provider:tenant_id for the tenant''s own. Null if p_provider is null.';

revoke execute on function brainops_internal.account_of(text, uuid) from public;
grant execute on function brainops_internal.account_of(text, uuid) to brainops_worker, brainops_system;

-- The one place that says which account a row goes through. Today every row of a table goes to the table's provider,
-- so the rows are not read; a second provider for a table is added here, and claim takes each account's rows apart.
create or replace function brainops_internal.accounts_of(p_job brainops.job_tables, p_tenant_id uuid, p_ids uuid[])
returns table (account text, ids uuid[])
language plpgsql
stable
rows 1
set search_path = ''
as $$
begin
  account := brainops_internal.account_of(p_job.provider, p_tenant_id);
  ids := p_ids;
  return next;
end;
$$;

comment on function brainops_internal.accounts_of(brainops.job_tables, uuid, uuid[]) is
  'The rows of one tenant by the provider account that they go through; account is null if the table has no provider. Keeps the order of p_ids.';

revoke execute on function brainops_internal.accounts_of(brainops.job_tables, uuid, uuid[]) from public;
grant execute
on function brainops_internal.accounts_of(brainops.job_tables, uuid, uuid[])
to brainops_worker, brainops_system;

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
