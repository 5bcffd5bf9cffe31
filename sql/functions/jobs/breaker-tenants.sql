-- What the circuit breaker of a platform's account knows about each tenant (brainops.breaker_tenants), and what follows
-- from it: the rule at the head of breaker.sql. Start at record_tenant_failure. brainops_internal.record_breaker_result
-- is the only caller.

create or replace function brainops_internal.record_tenant_success(p_account text, p_tenant_id uuid, p_note boolean)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_breaker brainops.circuit_breakers;
  v_locked boolean;
begin
  select * into v_breaker from brainops.circuit_breakers where account = p_account;
  if not found or (v_breaker.failures = 0 and v_breaker.opened_at is null) then
    if p_note then
      insert into brainops.breaker_tenants as t (tenant_id, account, last_success_at)
      values (p_tenant_id, p_account, v_now)
      on conflict (tenant_id, account) do update
        set
          failures = 0,
          failing_since = null,
          last_success_at = excluded.last_success_at
        where t.failing_since is not null
          or coalesce(t.last_success_at, '-infinity') <= v_now - brainops_internal.failure_window(p_account) / 4;
    end if;
    return;
  end if;

  -- The account has failures. Its row is needed only if this success changes it: to close the breaker, or to lower
  -- the count, because this tenant's failures end or all failures are too old.
  v_locked := v_breaker.opened_at is not null
    or exists (
      select from brainops.breaker_tenants
      where tenant_id = p_tenant_id and account = p_account and failing_since is not null
    )
    or brainops_internal.recent_failures(v_breaker) = 0;
  if v_locked then
    select * into v_breaker from brainops.circuit_breakers where account = p_account for update;
  end if;
  insert into brainops.breaker_tenants (tenant_id, account, last_success_at)
  values (p_tenant_id, p_account, v_now)
  on conflict (tenant_id, account) do update
    set
      failures = 0,
      failing_since = null,
      last_success_at = excluded.last_success_at;
  if v_breaker.retry_at <= v_now or v_breaker.opened_by <> p_tenant_id then
    -- Closes. The failures that opened it do not count any more.
    update brainops.breaker_tenants set failures = 0, failing_since = null
    where account = p_account and failing_since is not null;
    update brainops.circuit_breakers
    set
      failures = 0,
      opened_at = null,
      retry_at = null,
      opened_by = null,
      current_delay = null,
      agreed_delay = null,
      probe_expires_at = null,
      probe_tenant_id = null,
      probed_at = null
    where account = p_account;
  elsif v_locked then
    update brainops.circuit_breakers set failures = brainops_internal.recent_failures(v_breaker)
    where account = p_account;
  end if;
end;
$$;

comment on function brainops_internal.record_tenant_success(text, uuid, boolean) is
  'A success of a tenant through the platform''s account. Closes the breaker after retry_at, or at once if another tenant''s failures alone keep it open.';

revoke execute on function brainops_internal.record_tenant_success(text, uuid, boolean) from public;
grant execute on function brainops_internal.record_tenant_success(text, uuid, boolean) to brainops_system;

create or replace function brainops_internal.record_tenant_failure(
  p_account text,
  p_tenant_id uuid,
  p_succeeded int,
  p_failed int,
  p_error text
)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  b brainops.circuit_breakers;
  v_mine brainops.breaker_tenants;
  v_evidence text; -- several: tenants agree; alone: this tenant only; null: the state stays
begin
  -- Locks the account's row, so that two tenants' failures at the same time see each other. An account without a row,
  -- because it never failed or an admin deleted it, has no failures.
  insert into brainops.circuit_breakers (account, last_error)
  values (p_account, p_error)
  on conflict (account) do nothing;
  if found then
    update brainops.breaker_tenants set failures = 0, failing_since = null
    where account = p_account and failing_since is not null;
  end if;
  update brainops.circuit_breakers set last_error = p_error where account = p_account
  returning * into b;
  insert into brainops.breaker_tenants as t
    (tenant_id, account, failures, failing_since, last_failure_at, last_success_at)
  values (p_tenant_id, p_account, p_failed, v_now, v_now, case when p_succeeded > 0 then v_now end)
  on conflict (tenant_id, account) do update
    set
      -- Successes among the failures show that the provider answers, so the count starts again.
      failures = case when p_succeeded > 0 then p_failed else t.failures + p_failed end,
      failing_since = case when p_succeeded > 0 then v_now else coalesce(t.failing_since, v_now) end,
      last_failure_at = v_now,
      last_success_at = coalesce(excluded.last_success_at, t.last_success_at)
  returning * into v_mine;

  if b.opened_at is null then
    v_evidence := case
      when brainops_internal.tenants_agree(b) then 'several'
      when v_mine.failures >= b.threshold and not brainops_internal.others_called(b, p_tenant_id) then 'alone'
    end;
  elsif b.opened_by <> p_tenant_id then
    v_evidence := 'several';
  elsif b.probe_expires_at is not null and b.probe_tenant_id = p_tenant_id and b.retry_at <= v_now then
    -- Rows that were in flight when it opened count, but only a probe's failure prolongs the wait.
    v_evidence := 'alone';
  end if;

  if v_evidence = 'several' then
    b.opened_by := null;
    b.agreed_delay := least(coalesce(b.agreed_delay * 2, b.base_delay), b.max_delay);
    b.current_delay := b.agreed_delay;
  elsif v_evidence = 'alone' then
    b.opened_by := p_tenant_id;
    b.current_delay := least(coalesce(b.current_delay * 2, b.base_delay), b.max_delay);
  end if;
  update brainops.circuit_breakers
  set
    failures = brainops_internal.recent_failures(b),
    opened_at = case when v_evidence is null then opened_at else coalesce(opened_at, v_now) end,
    retry_at = case when v_evidence is null then retry_at else v_now + b.current_delay end,
    probe_expires_at = case when v_evidence is null then probe_expires_at end,
    opened_by = b.opened_by,
    current_delay = b.current_delay,
    agreed_delay = b.agreed_delay
  where account = p_account;
end;
$$;

comment on function brainops_internal.record_tenant_failure(text, uuid, int, int, text) is
  'Failures of a tenant through the platform''s account: opens the breaker, or prolongs its wait, by the rule at the head of this file.';

revoke execute on function brainops_internal.record_tenant_failure(text, uuid, int, int, text) from public;
grant execute on function brainops_internal.record_tenant_failure(text, uuid, int, int, text) to brainops_system;

create or replace function brainops_internal.failure_window(p_account text)
returns interval
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce((select failure_window from brainops.circuit_breakers where account = p_account), interval '60 seconds');
end;
$$;

comment on function brainops_internal.failure_window(text) is
  'failure_window of the account''s circuit breaker; its default if the account has never failed.';

revoke execute on function brainops_internal.failure_window(text) from public;
grant execute on function brainops_internal.failure_window(text) to brainops_system;

create or replace function brainops_internal.recent_failures(p_breaker brainops.circuit_breakers)
returns int
language plpgsql
volatile
set search_path = ''
as $$
begin
  return (
    select coalesce(sum(failures), 0)
    from brainops.breaker_tenants
    where account = p_breaker.account
      and failing_since is not null
      and last_failure_at > brainops.now() - p_breaker.failure_window
  );
end;
$$;

comment on function brainops_internal.recent_failures(brainops.circuit_breakers) is
  'Failures in a row of all tenants whose last call through the account failed within its failure_window.';

revoke execute on function brainops_internal.recent_failures(brainops.circuit_breakers) from public;
grant execute on function brainops_internal.recent_failures(brainops.circuit_breakers) to brainops_system;

-- Stored times of successes are up to a quarter of the window old, so that much is added to the window for them: in
-- doubt a success counts.
create or replace function brainops_internal.tenants_agree(p_breaker brainops.circuit_breakers)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_since constant timestamptz := brainops.now() - p_breaker.failure_window;
begin
  return (
    with
      called as (
        select
          last_success_at,
          failures,
          failing_since,
          failing_since is not null
            and last_failure_at > v_since
            and (failures >= 2 or coalesce(last_success_at, '-infinity') <= v_since - p_breaker.failure_window / 4)
            as fails
        from brainops.breaker_tenants
        where account = p_breaker.account
      ),
      failing as (
        select
          count(*) as tenants,
          sum(failures) as failures,
          (array_agg(failing_since order by failing_since desc))[2] as since
        from called
        where fails
      )
    select f.tenants >= 2
      and f.failures >= p_breaker.threshold
      and not exists (select from called as c where not c.fails and c.last_success_at >= f.since)
    from failing as f
  );
end;
$$;

comment on function brainops_internal.tenants_agree(brainops.circuit_breakers) is
  'Whether two or more tenants fail through the platform''s account, with threshold failures together, and no other tenant has succeeded since the second of them began to fail.';

revoke execute on function brainops_internal.tenants_agree(brainops.circuit_breakers) from public;
grant execute on function brainops_internal.tenants_agree(brainops.circuit_breakers) to brainops_system;

create or replace function brainops_internal.others_called(p_breaker brainops.circuit_breakers, p_tenant_id uuid)
returns boolean
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_since constant timestamptz := brainops.now() - p_breaker.failure_window;
begin
  return exists (
    select from brainops.breaker_tenants
    where account = p_breaker.account
      and tenant_id <> p_tenant_id
      and (last_failure_at > v_since or last_success_at > v_since - p_breaker.failure_window / 4)
  );
end;
$$;

comment on function brainops_internal.others_called(brainops.circuit_breakers, uuid) is
  'Whether another tenant than p_tenant_id has had a result through the account within its failure_window.';

revoke execute on function brainops_internal.others_called(brainops.circuit_breakers, uuid) from public;
grant execute on function brainops_internal.others_called(brainops.circuit_breakers, uuid) to brainops_system;

-- Called by the nightly task.
create or replace function brainops_internal.prune_breaker_tenants(p_most int default 5000)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  delete from brainops.breaker_tenants
  where (tenant_id, account) in (
    select tenant_id, account from brainops.breaker_tenants
    where greatest(last_failure_at, last_success_at) < brainops.now() - interval '1 day'
    limit p_most
    for update skip locked
  );
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops_internal.prune_breaker_tenants(int) is
  'Deletes at most p_most rows of brainops.breaker_tenants without a call for a day; returns their number.';

revoke execute on function brainops_internal.prune_breaker_tenants(int) from public;
grant execute on function brainops_internal.prune_breaker_tenants(int) to brainops_system;
