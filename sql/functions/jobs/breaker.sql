-- Circuit breakers: one per provider account, with one leased probe. A claim asks acquire_breaker, last of all, right
-- before it writes the rows. A settle reports with record_breaker_result and hold_account, last of all, so that nothing
-- waits for a lock of somebody else's while the breaker is locked.
--
-- What counts: only results of requests that have left the worker (src/jobs/requests.ts). A refused connection, an
-- unknown host, a timeout and a 5xx are failures. Any other answer shows that the provider works, 400, 413 and 422
-- about the row included. A 429 is neither: it is the account's limit, so the account waits for everyone
-- (hold_account), for at most max_delay.
--
--                failures reach threshold                   retry_at: one row, the probe
--      CLOSED ──────────────────────────────▶ OPEN ─────────────────────────────────────▶ HALF OPEN
--         ▲                                    ▲  └── probe_expires_at: another probe ──▶   │  │
--         │                                    └───── failure: the delay doubles ───────────┘  │
--         └─────────────────────────────── success after retry_at ─────────────────────────────┘
--
-- A tenant's own account (sendgrid:<tenant id>) is just that. The platform's account (sendgrid) is shared, and one
-- tenant's rows can fail for reasons of their own. So there the tenants are compared (brainops.breaker_tenants):
--
-- - A tenant fails if its last call failed within failure_window; if it also had a success within that time, from its
--   second failure in a row on.
-- - CLOSED opens if two or more tenants fail, with `threshold` failures together and no success of any other tenant
--   since the second of them began to fail. Then opened_by is null.
-- - CLOSED also opens if `threshold` failures in a row come from the only tenant that called within failure_window.
--   Then opened_by is that tenant, and OPEN applies to it alone: any other tenant may probe at once, whatever retry_at
--   and that tenant's probe say. Its success closes the breaker; its failure makes it everyone's (opened_by null).
-- - The failure of a probe is one tenant's, too: it doubles the delay and sets opened_by, until another tenant's probe
--   agrees. So a tenant whose rows always fail delays others by no more than one probe, even if it always takes it.
--   agreed_delay keeps apart what two tenants agreed on from what one tenant has doubled alone.
-- - A probe that has not ended after 5 seconds does not keep other tenants from probing.
--
-- Cost: in normal operation a success reads one row. It writes the tenant's row of brainops.breaker_tenants at most
-- every quarter of failure_window. While the account has failures, each batch of successes writes that row.
--
-- Lock order: the account's row of circuit_breakers, then rows of breaker_tenants. A success that does not need the
-- account's row locks its tenant's row only.

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
  c_takeover constant interval := '5 seconds';
  v_now constant timestamptz := brainops.now();
  v_tenant_id uuid;
  v_breaker brainops.circuit_breakers;
begin
  allowed := p_n;
  select * into v_breaker from brainops.circuit_breakers where account = p_account and opened_at is not null;
  if not found then
    return;
  end if;
  v_tenant_id := brainops.current_tenant_id();
  -- Two workers may get here at the same time: the row lock decides which one probes.
  update brainops.circuit_breakers
  set
    probe_expires_at = v_now + p_probe_lease,
    probe_tenant_id = v_tenant_id,
    probed_at = v_now
  where account = p_account
    and opened_at is not null
    and (retry_at <= v_now or opened_by <> v_tenant_id)
    and (
      coalesce(probe_expires_at, '-infinity') <= v_now
      or (probe_tenant_id <> v_tenant_id and (probe_tenant_id = opened_by or probed_at <= v_now - c_takeover))
    );
  allowed := case when found then 1 else 0 end;
  ask_at := greatest(case when v_breaker.opened_by <> v_tenant_id then null else v_breaker.retry_at end, v_now + interval '2 seconds');
end;
$$;

comment on function brainops_internal.acquire_breaker(text, int, interval) is
  'How many of p_n rows of the current tenant may go through provider account p_account now (allowed), and when to ask again for the others (ask_at; null if all may go). p_probe_lease: how long a probe has before another row may try.';

alter function brainops_internal.acquire_breaker(text, int, interval) owner to brainops_system;
revoke execute on function brainops_internal.acquire_breaker(text, int, interval) from public;
grant execute on function brainops_internal.acquire_breaker(text, int, interval) to brainops_worker;

-- The majority of the results in one report counts: a breaker opens because a provider is down, not because a few of
-- many rows fail.
create or replace function brainops_internal.record_breaker_result(
  p_account text,
  p_succeeded int,
  p_failed int,
  p_error text,
  p_note boolean default true
)
returns void
language plpgsql
security definer
set search_path = ''
as $$
declare
  v_is_own constant boolean := p_account like '%:%';
begin
  -- Normal operation, first: there is nothing to reset, and nothing to store.
  if p_succeeded > p_failed and not p_note and not exists (
    select from brainops.circuit_breakers where account = p_account and (failures > 0 or opened_at is not null)
  ) then
    return;
  end if;
  if p_succeeded > p_failed then
    if v_is_own then
      perform brainops_internal.close_own_breaker(p_account);
    else
      perform brainops_internal.record_tenant_success(p_account, brainops.current_tenant_id(), p_note);
    end if;
  elsif p_failed > 0 then
    if v_is_own then
      perform brainops_internal.record_own_failure(p_account, p_succeeded, p_failed, left(p_error, 500));
    else
      perform brainops_internal.record_tenant_failure(p_account, brainops.current_tenant_id(), p_succeeded, p_failed, left(p_error, 500));
    end if;
  else
    -- The probing row never reached the provider, so another row may probe.
    update brainops.circuit_breakers
    set probe_expires_at = null
    where account = p_account
      and probe_expires_at is not null
      and probe_tenant_id is not distinct from brainops.current_tenant_id();
  end if;
end;
$$;

comment on function brainops_internal.record_breaker_result(text, int, int, text, boolean) is
  'Records results of the current tenant''s calls through provider account p_account, by their majority: more successes than failures are a success, which resets the tenant''s count and may close the breaker; otherwise p_failed is added, and the breaker may open. Both 0: a probe that did not reach the provider gives its lease back. p_error: stored as last_error, cut to 500 characters. p_note: store the time of a success if the stored one is old; false if the worker reported one within the last 5 seconds.';

alter function brainops_internal.record_breaker_result(text, int, int, text, boolean) owner to brainops_system;
revoke execute on function brainops_internal.record_breaker_result(text, int, int, text, boolean) from public;
grant execute on function brainops_internal.record_breaker_result(text, int, int, text, boolean) to brainops_worker;

-- Closes only after retry_at: results of rows that were in flight when it opened, or when the provider asked to wait,
-- do not end the wait. Writes only if there is something to reset.
create or replace function brainops_internal.close_own_breaker(p_account text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update brainops.circuit_breakers
  set
    failures = 0,
    opened_at = case when retry_at > brainops.now() then opened_at end,
    current_delay = case when retry_at > brainops.now() then current_delay end,
    probe_expires_at = case when retry_at > brainops.now() then probe_expires_at end,
    retry_at = case when retry_at > brainops.now() then retry_at end
  where account = p_account and (failures > 0 or retry_at <= brainops.now());
end;
$$;

comment on function brainops_internal.close_own_breaker(text) is
  'A success through a tenant''s own account: resets the count, and closes the breaker after retry_at.';

revoke execute on function brainops_internal.close_own_breaker(text) from public;
grant execute on function brainops_internal.close_own_breaker(text) to brainops_system;

create or replace function brainops_internal.record_own_failure(
  p_account text,
  p_succeeded int,
  p_failed int,
  p_error text
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  insert into brainops.circuit_breakers as b (account, failures, last_error)
  values (p_account, p_failed, p_error)
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
end;
$$;

comment on function brainops_internal.record_own_failure(text, int, int, text) is
  'Failures through a tenant''s own account: opens the breaker at its threshold, and doubles the delay if it was the probe.';

revoke execute on function brainops_internal.record_own_failure(text, int, int, text) from public;
grant execute on function brainops_internal.record_own_failure(text, int, int, text) to brainops_system;

-- For a provider that asked to wait (429): opens the breaker until then, without counting a failure. The limit is the
-- account's, so one tenant's 429 holds all. max_delay bounds it: then one row finds out whether the wait is over.
create or replace function brainops_internal.hold_account(p_account text, p_until timestamptz)
returns void
language sql
security definer
set search_path = ''
as $$
  insert into brainops.circuit_breakers as b (account, opened_at, retry_at, last_error)
  values
    (p_account, brainops.now(), least(p_until, brainops.now() + interval '10 minutes'), 'the provider asked to wait')
  on conflict (account) do update
    set
      opened_at = coalesce(b.opened_at, brainops.now()),
      retry_at = greatest(
        case
          when b.opened_by is null then b.retry_at
        end,
        least(p_until, brainops.now() + b.max_delay)
      ),
      opened_by = null,
      probe_expires_at = null;
$$;

comment on function brainops_internal.hold_account(text, timestamptz) is
  'Opens the circuit breaker of provider account p_account until p_until, and not for longer than its max_delay, or until its retry_at if that is later.';

alter function brainops_internal.hold_account(text, timestamptz) owner to brainops_system;
revoke execute on function brainops_internal.hold_account(text, timestamptz) from public;
grant execute on function brainops_internal.hold_account(text, timestamptz) to brainops_worker;
