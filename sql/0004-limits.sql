-- What may hold a row back: pauses (a person's or the engine's word), rate limits (a token bucket
-- shared by all workers) and circuit breakers (one row each, one leased probe). All of them are
-- asked inside the claiming transaction, so what they say is true at the moment it counts.
set local lock_timeout = '2s';

create table brainops.pauses (
  id uuid primary key default gen_random_uuid(),
  table_name text not null references brainops.job_tables (table_name)
    on delete cascade,
  tenant_id uuid references public.tenants (id)
    on delete cascade,
  channel text,
  reason text not null,
  paused_by name not null default session_user,
  paused_at timestamptz not null default now()
);

create unique index pauses_once on brainops.pauses (tenant_id, table_name, channel) nulls not distinct;

comment on table brainops.pauses is
  'Job tables at a standstill. Rows wait as pending with the reason in last_error; brainops.resume() lets them go on.';
comment on column brainops.pauses.tenant_id is 'Null: every tenant.';
comment on column brainops.pauses.channel is 'Null: whatever the table''s channel.';

-- GCRA, the leaky bucket as a single instant ("theoretical arrival time"): constant state, no
-- refill job, and a row that must wait is given its own slot, so it waits once.
create table brainops.rate_limits (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid references public.tenants (id)
    on delete cascade,
  table_name text not null references brainops.job_tables (table_name)
    on delete cascade,
  per_second numeric not null,
  burst int not null default 1,
  next_slot timestamptz not null default '-infinity',
  constraint rate_limits_per_second_positive check (per_second > 0),
  constraint rate_limits_burst_positive check (burst >= 1)
);

create unique index rate_limits_once on brainops.rate_limits (tenant_id, table_name) nulls not distinct;

comment on table brainops.rate_limits is
  'At most per_second rows a second, burst at once: of one tenant, or (tenant_id null) of all together. Admins insert, update and delete.';
comment on column brainops.rate_limits.next_slot is
  'When the bucket would be full again: the theoretical arrival time of the GCRA (ITU-T I.371, ATM Forum TM 4.0).';

create table brainops.circuit_breakers (
  sender text primary key,
  failures int not null default 0,
  opened_at timestamptz,
  retry_at timestamptz,
  current_delay interval,
  probe_expires_at timestamptz,
  last_error text,
  threshold int not null default 5,
  base_delay interval not null default '15 seconds',
  max_delay interval not null default '10 minutes',
  constraint circuit_breakers_open_has_retry check ((opened_at is null) = (retry_at is null)),
  constraint circuit_breakers_threshold_positive check (threshold >= 1)
);

comment on table brainops.circuit_breakers is
  'One row for each sender that has ever failed. Read it through brainops.breakers.';
comment on column brainops.circuit_breakers.failures is 'Failures in a row; a success sets it to 0.';
comment on column brainops.circuit_breakers.retry_at is 'While open: from then on a single row may try.';
comment on column brainops.circuit_breakers.current_delay is
  'How long it waited before its last try; twice as long after the next failure, up to max_delay.';
comment on column brainops.circuit_breakers.probe_expires_at is
  'While a row tries: until when no other may. A worker that dies while it probes loses the lease then.';

create view brainops.breakers
with (security_invoker = true)
as
  select
    sender,
    case
      when opened_at is null then 'closed'
      when probe_expires_at > brainops.now() then 'half_open'
      else 'open'
    end as state,
    failures,
    opened_at,
    retry_at,
    last_error
  from brainops.circuit_breakers;

comment on view brainops.breakers is
  'The circuit breakers: closed (all goes), open (nothing before retry_at), half_open (one row tries).';

-- The three tables hold no secrets of tenants but do concern several: tenants get at them through
-- the functions below alone.
do $$
declare
  v_table regclass;
begin
  foreach v_table in array array['brainops.pauses', 'brainops.rate_limits', 'brainops.circuit_breakers']::regclass[]
  loop
    execute format('alter table %s enable row level security', v_table);
    execute format('alter table %s force row level security', v_table);
    execute format('create policy every_row on %s for all to brainops_admin, brainops_system using (true) with check (true)', v_table);
    execute format('grant select, insert, update, delete on %s to brainops_admin, brainops_system', v_table);
  end loop;
end;
$$;

create index pauses_tenant_id on brainops.pauses (tenant_id);
create index pauses_table_name on brainops.pauses (table_name);
create index rate_limits_tenant_id on brainops.rate_limits (tenant_id);
create index rate_limits_table_name on brainops.rate_limits (table_name);

grant select on brainops.breakers to brainops_admin, brainops_system;

-- A tenant may see its own limit and the common one: a claim looks whether there is any.
create policy own_tenant on brainops.rate_limits
for select
to brainops_worker
using (tenant_id is null or tenant_id = (select brainops.current_tenant_id()));
grant select on brainops.rate_limits to brainops_worker;

-- Why nothing of the table may go for the tenant now, or null.
create function brainops.pause_reason(p_table text, p_tenant_id uuid)
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

-- Reserves a slot for each of p_n rows, in order. A slot that lies in the future is when that row
-- may go: the caller defers the row to it and need not ask again. Null where no limit is set.
-- Locks the bucket until the end of the transaction; the tenant's bucket before the common one.
create function brainops.take_rate_slots(p_table text, p_tenant_id uuid, p_n int)
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

-- How many of p_n rows may go through the sender now, and when to ask again for the others.
-- Closed: all. Open: none before retry_at; after it one, which leases the probe.
create function brainops.ask_breaker(
  p_sender text,
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
  select * into v_breaker from brainops.circuit_breakers where sender = p_sender and opened_at is not null;
  if not found then
    return;
  end if;
  -- Two workers may come at once: the row lock decides who probes.
  update brainops.circuit_breakers
  set probe_expires_at = brainops.now() + p_probe_lease
  where sender = p_sender
    and opened_at is not null
    and retry_at <= brainops.now()
    and coalesce(probe_expires_at, '-infinity') <= brainops.now();
  allowed := case when found then 1 else 0 end;
  ask_at := greatest(v_breaker.retry_at, brainops.now() + interval '2 seconds');
end;
$$;

-- Writes down how it went. Costs nothing while all is well: a success touches only a breaker that
-- has failures to forget.
create function brainops.tell_breaker(p_sender text, p_succeeded int, p_failed int, p_error text)
returns void
language plpgsql
security definer
set search_path = ''
as $$
begin
  if p_failed = 0 and p_succeeded > 0 then
    -- Closes only when it is time: answers to rows that were under way when it opened, or when the
    -- sender asked to wait, do not end the wait.
    update brainops.circuit_breakers
    set
      failures = 0,
      opened_at = case when retry_at > brainops.now() then opened_at end,
      current_delay = case when retry_at > brainops.now() then current_delay end,
      probe_expires_at = case when retry_at > brainops.now() then probe_expires_at end,
      retry_at = case when retry_at > brainops.now() then retry_at end
    where sender = p_sender and (failures > 0 or retry_at <= brainops.now());
  elsif p_failed > 0 then
    insert into brainops.circuit_breakers as b (sender, failures, last_error)
    values (p_sender, p_failed, left(p_error, 500))
    on conflict (sender) do update
      set
        -- Successes beside the failures show that the sender is there: start to count anew.
        failures = case when p_succeeded > 0 then p_failed else b.failures + p_failed end,
        last_error = excluded.last_error;
    -- Opens at the threshold; an open one whose probe failed waits twice as long as before.
    update brainops.circuit_breakers
    set
      opened_at = coalesce(opened_at, brainops.now()),
      current_delay = least(coalesce(current_delay * 2, base_delay), max_delay),
      retry_at = brainops.now() + least(coalesce(current_delay * 2, base_delay), max_delay),
      probe_expires_at = null
    where sender = p_sender
      and case
        when opened_at is null then failures >= threshold
        -- Rows that were under way when it opened count, but only a probe's failure prolongs it.
        else probe_expires_at is not null and retry_at <= brainops.now()
      end;
  else
    -- The row that probed never reached the sender: another may.
    update brainops.circuit_breakers
    set probe_expires_at = null
    where sender = p_sender and probe_expires_at is not null;
  end if;
end;
$$;

-- A sender that said "not before T" is open until then, without a failure to its name.
create function brainops.hold_sender(p_sender text, p_until timestamptz)
returns void
language sql
security definer
set search_path = ''
as $$
  insert into brainops.circuit_breakers as b (sender, opened_at, retry_at, last_error)
  values (p_sender, brainops.now(), p_until, 'asked to wait')
  on conflict (sender) do update
    set
      opened_at = coalesce(b.opened_at, brainops.now()),
      retry_at = greatest(b.retry_at, p_until),
      probe_expires_at = null;
$$;

comment on function brainops.hold_sender(text, timestamptz) is
  'Holds all rows of a sender until it said it can be asked again.';
comment on function brainops.pause_reason(text, uuid) is
  'Why nothing of the table may go for the tenant now; null when it may.';
comment on function brainops.take_rate_slots(text, uuid, int) is
  'When each of n rows may go under the table''s rate limits, reserved; null without a limit.';
comment on function brainops.ask_breaker(text, int, interval) is
  'How many of n rows may go through the sender now; ask_at is when to ask again for the rest.';
comment on function brainops.tell_breaker(text, int, int, text) is
  'Counts successes and failures of a sender; opens its breaker at the threshold, closes it on success.';

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'brainops.pause_reason(text, uuid)',
    'brainops.take_rate_slots(text, uuid, int)',
    'brainops.ask_breaker(text, int, interval)',
    'brainops.tell_breaker(text, int, int, text)',
    'brainops.hold_sender(text, timestamptz)'
  ]::regprocedure[]
  loop
    execute format('alter function %s owner to brainops_system', v_function);
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_worker', v_function);
  end loop;
end;
$$;
