-- Claim: a worker takes due rows, in one short transaction as their tenant (role brainops_worker). Start at
-- brainops_internal.claim; the counterpart is brainops_internal.settle.
--
-- Between claim and settle no transaction is open and no lock is held. The lease, a uuid that only the claimer knows,
-- decides whether a result counts: a late or second settle changes nothing.
--
-- A claim of one row also claims the due rows that may share its provider call (bulk.sql). Each stays a row of its own,
-- with its own verdict of the gate, outcome and events.
--
-- A suspect (worker_deaths >= 2) may be what killed its workers. A claim does not hand it out, neither by name nor with
-- its bulk, unless p_alone says that the caller has nothing else in flight; it answers alone instead.
--
-- Lock order: job rows (skip locked), the gate's keys, the buckets of rate limits, a shard of the sending cap (skip
-- locked), the circuit breaker, graphile-worker's jobs. Only the jobs of bulk rows that the claim leaves behind are
-- queued earlier, right after the rows are locked.

-- Locks the due rows among p_ids, checks everything that may hold them back, and writes the result. For rows that may
-- go: status processing, the lease, attempts + 1. For the others: the verdict. Rows that are not due are left out of
-- the answer, and so are rows that another transaction has locked, which get a second job.
create or replace function brainops_internal.claim(
  p_table text,
  p_ids uuid[],
  p_worker_id uuid,
  p_lease uuid default gen_random_uuid(),
  p_missing_platform text default null,
  p_missing_tenant text default null,
  p_bulk boolean default false,
  p_alone boolean default false
)
returns table (id uuid, outcome text, lease uuid, attempt int, reason text, account text, bulk uuid)
language plpgsql
set search_path = ''
set random_page_cost = 1 -- as in brainops_internal.settle
as $$
declare
  -- An unused slot of a rate limit expires after this time. So rows that waited for something else (a pause, no
  -- worker) burst with five seconds' worth of the rate at most; a row that is claimed later than that waits for another
  -- slot.
  c_slot_kept constant interval := '5 seconds';
  v_job brainops.job_tables;
  v_tenant_id uuid := brainops.current_tenant_id();
  v_now timestamptz := brainops.now();
  v_ids uuid[];
  v_in_slot uuid[];
  v_suspects uuid[];
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  execute format(
    'select
       array_agg(s.id order by s.job_priority, s.scheduled_for, s.id) filter (where s.worker_deaths < 2 or $4),
       coalesce(array_agg(s.id) filter (where s.rate_slot between $2 - $3 and $2), ''{}''),
       array_agg(s.id) filter (where s.worker_deaths >= 2 and not $4)
     from (
       select id, job_priority, scheduled_for, rate_slot, worker_deaths from %s
       -- In a case expression, so that the planner uses the ids: otherwise it would read the whole index of pending
       -- rows.
       where id = any ($1) and case when status = ''pending'' then scheduled_for <= $2 else false end
       for update skip locked
     ) as s',
    v_job.relation
  )
    into v_ids, v_in_slot, v_suspects
    using p_ids, v_now, c_slot_kept, p_alone;
  if cardinality(v_ids || v_suspects) is distinct from cardinality(p_ids) then
    perform brainops_internal.enqueue_locked_rows(p_table, array(select unnest(p_ids) except select unnest(v_ids || v_suspects)));
  end if;
  if v_suspects is not null then
    -- Nothing is written: their own claim follows.
    return query select s, 'alone', null::uuid, null::int, null::text, null::text, null::uuid from unnest(v_suspects) as s;
  end if;
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

comment on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean, boolean) is
  'Claims the due rows of the current tenant among p_ids for worker p_worker_id, under lease p_lease. Returns a row for each that was locked: outcome go (now processing), or skip, fail, defer, slot or hold with the reason; account is the provider account that the effect goes through, bulk the row''s bulk key, each null if the row has none. Rows that are not due, or locked by another transaction, are left out. p_missing_platform, p_missing_tenant: why this worker cannot use the platform''s account, or tenants'' own accounts; null if it can. p_bulk: other due rows with the same bulk key are claimed too. p_alone: the caller claims nothing else until the row is settled, so suspects may go; otherwise they get the outcome alone, and stay as they are.';

revoke execute on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean, boolean) from public;
grant execute
on function brainops_internal.claim(text, uuid[], uuid, uuid, text, text, boolean, boolean)
to brainops_worker, brainops_system;

-- The second half of claim: decides about locked rows that go through one provider account, and writes the decisions.
-- Checked in this order: pause and credentials, gate, rate limit, sending cap, breaker. Each removes the rows that it holds back
-- from v_ids.
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
  -- Pauses and missing credentials come first: the gate decides nothing about a row that cannot go anyway.
  v_reason := coalesce(brainops_internal.pause_reason(p_job.table_name, p_tenant_id), p_missing);
  if v_reason is not null then
    select array_agg(row(i, 'hold', null, v_reason)::brainops.verdict) into v_verdicts from unnest(v_ids) as i;
    v_ids := '{}';
  end if;

  if p_bulk and p_job.bulk_column is not null and v_ids <> '{}' then
    v_brought := brainops_internal.lock_bulk_rows(p_job, p_tenant_id, v_ids, p_now, p_slot_kept);
    v_ids := v_ids || v_brought.ids;
    v_in_slot := v_in_slot || v_brought.in_slot;
    -- Due rows that are left behind need a job, regardless of what is decided about the claimed ones.
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
    -- Rows that return at the slot that they were assigned pass; the others take a slot.
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

  if v_ids <> '{}' then
    v_more := brainops_internal.sending_cap_verdicts(p_job, p_tenant_id, p_account, v_ids);
    v_verdicts := v_verdicts || v_more;
    v_ids := brainops_internal.ids_without(v_ids, v_more);
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
  'Decides about locked rows that go through one provider account (p_account null: the table has no provider), and writes the decisions; the result is the same as for brainops_internal.claim. p_in_slot: rows that return at their slot of a rate limit, which is not older than p_slot_kept. p_missing: why the worker cannot use the account; null if it can.';

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

-- The platform's account is named by the provider alone, a tenant's own account by provider:tenant_id. Each has a
-- circuit breaker of its own, so a failing account of one tenant does not hold up other tenants.
--
-- In PL/pgSQL, which caches plans: up to Postgres 17 a function in SQL is planned at each call, and each claim makes
-- this call (0.1 ms of 2 ms). Tables without a provider skip the query.
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
    select from brainops_internal.tenant_account(p_tenant_id, p_provider)
  ) then
    return p_provider || ':' || p_tenant_id;
  end if;
  return p_provider;
end;
$$;

comment on function brainops_internal.account_of(text, uuid) is
  'The account that a tenant uses with a provider, as brainops.breakers names it: provider:tenant_id if the tenant has an active default credential, else the provider''s name, for the platform''s account. Null if p_provider is null.';

revoke execute on function brainops_internal.account_of(text, uuid) from public;
grant execute on function brainops_internal.account_of(text, uuid) to brainops_worker, brainops_system;

-- The only place that decides which account a row goes through. All rows of a table go to the table's provider, so the
-- rows are not read. A second provider for a table would be added here; claim handles each account's rows separately.
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

-- Takes back a claim whose answer was lost. Finds the rows by the lease alone, because the worker does not know which
-- other rows of the bulk were claimed. The lease is fresh for each claim, so a newer claim of the same rows is not
-- touched.
create or replace function brainops_internal.unclaim(p_table text, p_ids uuid[], p_lease uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  -- The lock comes first: the lost claim's commit may still be in progress, and its outcome decides what is updated.
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
  'Sets all rows claimed under p_lease back to pending, without the attempt that the claim counted. p_ids: the rows that the claim named. Only for rows whose effect has not started.';

revoke execute on function brainops_internal.unclaim(text, uuid[], uuid) from public;
grant execute on function brainops_internal.unclaim(text, uuid[], uuid) to brainops_worker;
