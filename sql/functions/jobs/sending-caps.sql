-- Caps: how much a tenant may send through the platform's accounts, whose reputation and costs all tenants share. A claim
-- calls sending_cap_verdicts after the rate limits. Whether a mail is marketing is the tenant's word, so the caps count all
-- messages.

create or replace function brainops_internal.sending_cap(
  p_tenant_id uuid,
  p_channel text,
  out per_hour int,
  out per_day int
)
returns record
language plpgsql
stable
set search_path = ''
as $$
begin
  select c.per_hour, c.per_day into per_hour, per_day
    from brainops.sending_caps as c
    where c.channel = p_channel and (c.tenant_id = p_tenant_id or c.tenant_id is null)
    order by c.tenant_id nulls last
    limit 1;
  if not found then
    per_hour := case p_channel when 'email' then 10000 else 1000 end;
    per_day := case p_channel when 'email' then 50000 else 5000 end;
  end if;
end;
$$;

comment on function brainops_internal.sending_cap(uuid, text) is
  'How many messages the tenant may send through the platform''s account in an hour and in 24 hours; null: no cap. p_channel: email or sms.';

revoke execute on function brainops_internal.sending_cap(uuid, text) from public;
grant execute on function brainops_internal.sending_cap(uuid, text) to brainops_worker, brainops_system;

create or replace function brainops_internal.add_sending_counts(p_tenant_id uuid)
returns void
language sql
set search_path = ''
as $$
  insert into brainops.sending_counts (tenant_id, channel, shard)
  select p_tenant_id, c, s
  from unnest('{email,sms}'::text[]) as c cross join generate_series(0, 15) as s
  on conflict do nothing;
$$;

comment on function brainops_internal.add_sending_counts(uuid) is
  'Adds a tenant''s rows of brainops.sending_counts, with the tenant: claims that added them would wait for each other.';

revoke execute on function brainops_internal.add_sending_counts(uuid) from public;
grant execute on function brainops_internal.add_sending_counts(uuid) to brainops_system;

-- Takes from one shard, usually, and skips those that other claims hold. So claims of one tenant do not wait for each
-- other, also not for one whose transaction hangs, and the cap is exact: each shard has its own part of it. A small cap
-- uses fewer shards. Only if more than 16 claims are open at once, one waits; it holds no other shard then, so there is
-- no deadlock.
create or replace function brainops_internal.take_sending_slots(
  p_tenant_id uuid,
  p_channel text,
  p_n int,
  out taken int,
  out is_busy boolean
)
returns record
language plpgsql
security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  c_most_shards constant int := 16;
  c_least_of_shard constant int := 50;
  v_hour constant timestamptz := date_trunc('hour', brainops.now());
  v_place constant int := extract(hour from v_hour)::int + 1;
  v_cap record := brainops_internal.sending_cap(p_tenant_id, p_channel);
  v_shards constant int := least(c_most_shards, greatest(least(v_cap.per_hour, v_cap.per_day) / c_least_of_shard, 1));
  v_first constant int := floor(random() * v_shards);
  v_seen smallint[] := '{}';
  v_row brainops.sending_counts;
  v_passed int;
  v_take int;
begin
  taken := case when v_cap.per_hour is null and v_cap.per_day is null then p_n else 0 end;
  is_busy := false;
  while taken < p_n and cardinality(v_seen) < v_shards loop
    select * into v_row
      from brainops.sending_counts as c
      where c.tenant_id = p_tenant_id and c.channel = p_channel and c.shard < v_shards and c.shard <> all (v_seen)
      order by (c.shard + v_first) % v_shards
      limit 1
      for update skip locked;
    if not found and v_seen = '{}' and v_shards = c_most_shards then
      select * into strict v_row
        from brainops.sending_counts as c
        where c.tenant_id = p_tenant_id and c.channel = p_channel and c.shard = v_first
        for update;
    elsif not found then
      is_busy := true;
      return;
    end if;
    v_seen := v_seen || v_row.shard;

    v_passed := case
      when v_row.last_hour < v_hour - interval '23 hours' then 24
      else greatest(extract(epoch from v_hour - v_row.last_hour)::int / 3600, 0)
    end;
    for i in 0..v_passed - 1 loop
      v_row.counts[(v_place - 1 - i + 24) % 24 + 1] := 0;
    end loop;
    v_take := least(
      p_n - taken,
      v_cap.per_hour / v_shards + (v_row.shard < v_cap.per_hour % v_shards)::int - v_row.counts[v_place],
      v_cap.per_day / v_shards + (v_row.shard < v_cap.per_day % v_shards)::int - (select sum(n) from unnest(v_row.counts) as n)
    );
    continue when v_take <= 0;
    v_row.counts[v_place] := v_row.counts[v_place] + v_take;
    update brainops.sending_counts as c
    set counts = v_row.counts, last_hour = greatest(c.last_hour, v_hour)
    where c.tenant_id = p_tenant_id and c.channel = p_channel and c.shard = v_row.shard;
    taken := taken + v_take;
  end loop;
end;
$$;

comment on function brainops_internal.take_sending_slots(uuid, text, int) is
  'Counts messages against the tenant''s cap on the platform''s account: taken of p_n may go. is_busy: what is left of the cap is in shards that other claims hold at the moment.';

alter function brainops_internal.take_sending_slots(uuid, text, int) owner to brainops_system;
revoke execute on function brainops_internal.take_sending_slots(uuid, text, int) from public;
grant execute on function brainops_internal.take_sending_slots(uuid, text, int) to brainops_worker;

-- What is over the cap is asked for again at random within the next hour of the clock; after each further time within
-- twice as many hours, up to 24. So a small excess goes soon, and a large backlog is claimed about once a day.
create or replace function brainops_internal.sending_cap_verdicts(
  p_job brainops.job_tables,
  p_tenant_id uuid,
  p_account text,
  p_ids uuid[]
)
returns brainops.verdict[]
language plpgsql
set search_path = ''
as $$
declare
  v_now constant timestamptz := brainops.now();
  v_slots record;
  v_cap record;
  v_verdicts brainops.verdict[];
begin
  -- A tenant's own account is provider:tenant_id. While the breaker is open, only a probe goes; it is not counted.
  if coalesce(p_job.channel, '') not in ('email', 'sms') or p_account is null or p_account <> p_job.provider
    or brainops_internal.is_breaker_open(p_account)
  then
    return '{}';
  end if;
  v_slots := brainops_internal.take_sending_slots(p_tenant_id, p_job.channel, cardinality(p_ids));
  if v_slots.taken = cardinality(p_ids) then
    return '{}';
  end if;
  v_cap := brainops_internal.sending_cap(p_tenant_id, p_job.channel);
  execute format(
    'select array_agg(
       row(
         t.id, ''defer'',
         case
           when $3 then $4 + interval ''1 second'' * (1 + random())
           else date_trunc(''hour'', $4, ''UTC'') + interval ''1 hour'' * (1 + random() * least(2 ^ least(t.deferrals, 10), 24))
         end,
         $2
       )::brainops.verdict
     )
     from %s as t where t.id = any ($1)',
    p_job.relation
  )
    into v_verdicts
    using
      p_ids[v_slots.taken + 1:],
      format(
        'sending cap: %s an hour and %s in 24 hours through the shared account (brainops.sending_caps); an account of the tenant''s own has none',
        coalesce(v_cap.per_hour::text, 'any number'), coalesce(v_cap.per_day::text, 'any number')
      ),
      v_slots.is_busy, v_now;
  return v_verdicts;
end;
$$;

comment on function brainops_internal.sending_cap_verdicts(brainops.job_tables, uuid, text, uuid[]) is
  'Counts messages that go through the platform''s account, and returns a verdict (defer) for those over the tenant''s cap. Empty for a tenant''s own account, and for tables of other channels than email and sms.';

revoke execute
on function brainops_internal.sending_cap_verdicts(brainops.job_tables, uuid, text, uuid[])
from public;
grant execute
on function brainops_internal.sending_cap_verdicts(brainops.job_tables, uuid, text, uuid[])
to brainops_worker, brainops_system;

create or replace function brainops_internal.is_breaker_open(p_account text)
returns boolean
language plpgsql
stable
security definer
set search_path = ''
as $$
begin
  return exists (select from brainops.circuit_breakers where account = p_account and opened_at is not null);
end;
$$;

comment on function brainops_internal.is_breaker_open(text) is
  'Whether the circuit breaker of a provider account is open.';

alter function brainops_internal.is_breaker_open(text) owner to brainops_system;
revoke execute on function brainops_internal.is_breaker_open(text) from public;
grant execute on function brainops_internal.is_breaker_open(text) to brainops_worker;
