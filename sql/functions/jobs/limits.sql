-- What may hold back the rows of a whole table or provider account: pauses (by a person or the engine), rate limits
-- (buckets shared by all workers) and circuit breakers (one per provider account, with one leased probe). A claim asks
-- pause_reason, reserve_rate_slots and acquire_breaker in its own transaction, right before it writes the rows. A
-- settle reports with record_breaker_result, hold_account and pause_account.

create or replace function brainops_internal.pause_reason(p_table text, p_tenant_id uuid)
returns text
language plpgsql
stable
security definer
set search_path = ''
as $$
declare
  v_reason text;
begin
  select 'tenant ' || slug || ' is suspended' into v_reason
    from public.tenants
    where id = p_tenant_id and status <> 'active';
  if not found then
    select 'paused by ' || p.paused_by || ': ' || p.reason into v_reason
      from brainops.pauses as p
      inner join brainops.job_tables as j using (table_name)
      where p.table_name = p_table
        and (p.tenant_id is null or p.tenant_id = p_tenant_id)
        and (p.channel is null or p.channel = j.channel)
      limit 1;
  end if;
  return v_reason;
end;
$$;

comment on function brainops_internal.pause_reason(text, uuid) is
  'Why no row of the table may go for the tenant now: the tenant is suspended or the table is paused; null if rows may go.';

alter function brainops_internal.pause_reason(text, uuid) owner to brainops_system;
revoke execute on function brainops_internal.pause_reason(text, uuid) from public;
grant execute on function brainops_internal.pause_reason(text, uuid) to brainops_worker, brainops_admin;

-- Reserves a slot for each of p_n rows, in order. If a slot lies in the future, the caller moves the row to it, and
-- the row need not ask again. Locks the buckets until the end of the transaction, the tenant's before the common one.
create or replace function brainops_internal.reserve_rate_slots(p_table text, p_tenant_id uuid, p_n int)
returns timestamptz[]
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_limit record;
  v_from timestamptz;
  v_slots timestamptz[];
  v_all timestamptz[];
begin
  for v_limit in
    select * from brainops.rate_limits
    where table_name = p_table and (tenant_id = p_tenant_id or tenant_id is null)
    order by tenant_id nulls last
    for update
  loop
    v_from := greatest(v_limit.next_slot, brainops.now());
    select array_agg(v_from + make_interval(secs => ((i - v_limit.burst) / v_limit.per_second)::float8) order by i)
      into v_slots
      from generate_series(1, p_n) as i;
    update brainops.rate_limits
    set next_slot = v_from + make_interval(secs => (p_n / v_limit.per_second)::float8)
    where id = v_limit.id;
    select array_agg(greatest(mine, v_all[i]) order by i) into v_all from unnest(v_slots) with ordinality as s (mine, i);
  end loop;
  return v_all;
end;
$$;

comment on function brainops_internal.reserve_rate_slots(text, uuid, int) is
  'Reserves p_n slots under the table''s rate limits and returns their times, the first for the first row: the later one where both the tenant''s and the common limit apply. Null if the table has no limit.';

alter function brainops_internal.reserve_rate_slots(text, uuid, int) owner to brainops_system;
revoke execute on function brainops_internal.reserve_rate_slots(text, uuid, int) from public;
grant execute on function brainops_internal.reserve_rate_slots(text, uuid, int) to brainops_worker;

-- Closed: all rows may go. Open: no row may go before retry_at; from then on one row, which holds the lease of the
-- probe.
create or replace function brainops_internal.acquire_breaker(
  p_account text,
  p_n int,
  p_probe_lease interval,
  out allowed int,
  out ask_at timestamptz
)
returns record
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_breaker brainops.circuit_breakers;
begin
  allowed := p_n;
  select * into v_breaker from brainops.circuit_breakers where account = p_account and opened_at is not null;
  if not found then
    return;
  end if;
  -- Two workers may get here at the same time: the row lock decides which one probes.
  update brainops.circuit_breakers
  set probe_expires_at = brainops.now() + p_probe_lease
  where account = p_account
    and opened_at is not null
    and retry_at <= brainops.now()
    and coalesce(probe_expires_at, '-infinity') <= brainops.now();
  allowed := case when found then 1 else 0 end;
  ask_at := greatest(v_breaker.retry_at, brainops.now() + interval '2 seconds');
end;
$$;

comment on function brainops_internal.acquire_breaker(text, int, interval) is
  'How many of p_n rows may go through provider account p_account now (allowed), and when to ask again for the others (ask_at; null if all may go). p_probe_lease: how long a probe has before another row may try.';

alter function brainops_internal.acquire_breaker(text, int, interval) owner to brainops_system;
revoke execute on function brainops_internal.acquire_breaker(text, int, interval) from public;
grant execute on function brainops_internal.acquire_breaker(text, int, interval) to brainops_worker;

-- The majority of the results in one report counts: a breaker opens because a provider is down, not because a few of
-- many rows fail. A success writes only if the breaker has failures to reset, so nothing is written in normal
-- operation.
create or replace function brainops_internal.record_breaker_result(
  p_account text,
  p_succeeded int,
  p_failed int,
  p_error text
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  if p_succeeded > p_failed then
    -- Closes only after retry_at: results of rows that were in flight when it opened, or when the provider asked to
    -- wait, do not end the wait.
    update brainops.circuit_breakers
    set
      failures = 0,
      opened_at = case when retry_at > brainops.now() then opened_at end,
      current_delay = case when retry_at > brainops.now() then current_delay end,
      probe_expires_at = case when retry_at > brainops.now() then probe_expires_at end,
      retry_at = case when retry_at > brainops.now() then retry_at end
    where account = p_account and (failures > 0 or retry_at <= brainops.now());
  elsif p_failed > 0 then
    insert into brainops.circuit_breakers as b (account, failures, last_error)
    values (p_account, p_failed, left(p_error, 500))
    on conflict (account) do update
      set
        -- Successes among the failures show that the provider answers, so the count starts again.
        failures = case when p_succeeded > 0 then p_failed else b.failures + p_failed end,
        last_error = excluded.last_error;
    -- Opens at the threshold. If the probe of an open breaker failed, the wait doubles.
    update brainops.circuit_breakers
    set
      opened_at = coalesce(opened_at, brainops.now()),
      current_delay = least(coalesce(current_delay * 2, base_delay), max_delay),
      retry_at = brainops.now() + least(coalesce(current_delay * 2, base_delay), max_delay),
      probe_expires_at = null
    where account = p_account
      and case
        when opened_at is null then failures >= threshold
        -- Rows that were in flight when it opened count, but only a probe's failure prolongs the wait.
        else probe_expires_at is not null and retry_at <= brainops.now()
      end;
  else
    -- The probing row never reached the provider, so another row may probe.
    update brainops.circuit_breakers
    set probe_expires_at = null
    where account = p_account and probe_expires_at is not null;
  end if;
end;
$$;

comment on function brainops_internal.record_breaker_result(text, int, int, text) is
  'Records results of calls through provider account p_account. More successes than failures reset the count, and close the breaker after retry_at; otherwise p_failed is added, and the breaker opens at its threshold. Both 0: a probe that did not reach the provider gives its lease back. p_error: stored as last_error, cut to 500 characters.';

alter function brainops_internal.record_breaker_result(text, int, int, text) owner to brainops_system;
revoke execute on function brainops_internal.record_breaker_result(text, int, int, text) from public;
grant execute on function brainops_internal.record_breaker_result(text, int, int, text) to brainops_worker;

-- For a provider that asked to wait (429): opens the breaker until then, without counting a failure.
create or replace function brainops_internal.hold_account(p_account text, p_until timestamptz)
returns void
language sql
security definer
set search_path = ''
as $$
  insert into brainops.circuit_breakers as b (account, opened_at, retry_at, last_error)
  values (p_account, brainops.now(), p_until, 'the provider asked to wait')
  on conflict (account) do update
    set
      opened_at = coalesce(b.opened_at, brainops.now()),
      retry_at = greatest(b.retry_at, p_until),
      probe_expires_at = null;
$$;

comment on function brainops_internal.hold_account(text, timestamptz) is
  'Opens the circuit breaker of provider account p_account until p_until, or until its retry_at if that is later.';

alter function brainops_internal.hold_account(text, timestamptz) owner to brainops_system;
revoke execute on function brainops_internal.hold_account(text, timestamptz) from public;
grant execute on function brainops_internal.hold_account(text, timestamptz) to brainops_worker;

create or replace function brainops_internal.pause_account(p_table text, p_everyone boolean, p_reason text)
returns void
language sql
security definer
set search_path = ''
as $$
  insert into brainops.pauses (table_name, tenant_id, reason)
  values
    (
      p_table,
      case
        when not p_everyone then brainops.current_tenant_id()
      end,
      p_reason
    )
  on conflict (tenant_id, table_name, channel) do update set reason = excluded.reason;
$$;

comment on function brainops_internal.pause_account(text, boolean, text) is
  'Pauses a job table because its provider refuses every call: for the current tenant, or with p_everyone for every tenant. brainops.resume ends it.';

alter function brainops_internal.pause_account(text, boolean, text) owner to brainops_system;
revoke execute on function brainops_internal.pause_account(text, boolean, text) from public;
grant execute on function brainops_internal.pause_account(text, boolean, text) to brainops_worker;
