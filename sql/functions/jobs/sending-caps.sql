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

-- Below the cap, this is one update of the hour's row, which makes claims of one tenant count one after the other. The
-- counts of the hours before do not change any more. Messages that do not fit are spread over the next 24 hours by what
-- is free there, so that a backlog is not claimed again every hour; a slot in a later hour is a time to ask again, not a
-- permission. Hours are locked in ascending order.
create or replace function brainops_internal.reserve_cap_slots(p_tenant_id uuid, p_channel text, p_n int)
returns timestamptz[]
language plpgsql
security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  c_hours_ahead constant int := 24;
  v_now constant timestamptz := brainops.now();
  v_this constant timestamptz := date_trunc('hour', v_now);
  v_cap record := brainops_internal.sending_cap(p_tenant_id, p_channel);
  v_most int;
  v_hour timestamptz := v_this;
  v_taken int;
  v_take int;
  v_slots timestamptz[] := '{}';
begin
  if v_cap.per_hour is null and v_cap.per_day is null then
    return array_fill(null::timestamptz, array[p_n]);
  end if;
  select least(v_cap.per_hour, v_cap.per_day - coalesce(sum(c.taken), 0)) into v_most
    from brainops.sending_counts as c
    where c.tenant_id = p_tenant_id and c.channel = p_channel and c.hour > v_this - interval '24 hours' and c.hour < v_this;
  update brainops.sending_counts as c set taken = c.taken + p_n
  where c.tenant_id = p_tenant_id and c.channel = p_channel and c.hour = v_this and c.taken + p_n <= v_most;
  if found then
    return array_fill(null::timestamptz, array[p_n]);
  end if;

  insert into brainops.sending_counts as c (tenant_id, channel, hour)
  values (p_tenant_id, p_channel, v_this)
  on conflict (tenant_id, channel, hour) do update set taken = c.taken
  returning c.taken into v_taken;
  v_take := greatest(least(p_n, v_most - v_taken), 0);
  if v_take > 0 then
    update brainops.sending_counts as c set taken = c.taken + v_take
    where c.tenant_id = p_tenant_id and c.channel = p_channel and c.hour = v_this;
    v_slots := array_fill(null::timestamptz, array[v_take]);
  end if;
  if v_taken = 0 then
    delete from brainops.sending_counts as c
    where c.tenant_id = p_tenant_id and c.channel = p_channel and c.hour < v_this - interval '2 days';
  end if;

  for i in 1..c_hours_ahead loop
    exit when cardinality(v_slots) = p_n;
    v_hour := v_hour + interval '1 hour';
    insert into brainops.sending_counts as c (tenant_id, channel, hour)
    values (p_tenant_id, p_channel, v_hour)
    on conflict (tenant_id, channel, hour) do update set promised = c.promised
    returning v_cap.per_hour - c.promised into v_take;
    select least(v_take, v_cap.per_day - coalesce(sum(case when c.hour > v_this then c.promised else c.taken end), 0))
      into v_take
      from brainops.sending_counts as c
      where c.tenant_id = p_tenant_id and c.channel = p_channel and c.hour > v_hour - interval '24 hours' and c.hour <= v_hour;
    v_take := case when i = c_hours_ahead then p_n - cardinality(v_slots) else least(p_n - cardinality(v_slots), v_take) end;
    continue when v_take <= 0;
    update brainops.sending_counts as c set promised = c.promised + v_take
    where c.tenant_id = p_tenant_id and c.channel = p_channel and c.hour = v_hour;
    v_slots := v_slots || (select array_agg(v_hour + random() * interval '55 minutes') from generate_series(1, v_take));
  end loop;
  return v_slots;
end;
$$;

comment on function brainops_internal.reserve_cap_slots(uuid, text, int) is
  'Counts p_n messages against the tenant''s cap on the platform''s account, one element each: null may go now, an instant is when to ask again.';

alter function brainops_internal.reserve_cap_slots(uuid, text, int) owner to brainops_system;
revoke execute on function brainops_internal.reserve_cap_slots(uuid, text, int) from public;
grant execute on function brainops_internal.reserve_cap_slots(uuid, text, int) to brainops_worker;

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
  v_slots timestamptz[];
  v_cap record;
begin
  -- A tenant's own account is provider:tenant_id. While the breaker is open, only a probe goes; it is not counted.
  if coalesce(p_job.channel, '') not in ('email', 'sms') or p_account is null or p_account <> p_job.provider
    or brainops_internal.is_breaker_open(p_account)
  then
    return '{}';
  end if;
  v_slots := brainops_internal.reserve_cap_slots(p_tenant_id, p_job.channel, cardinality(p_ids));
  if v_slots[cardinality(v_slots)] is null then
    return '{}';
  end if;
  v_cap := brainops_internal.sending_cap(p_tenant_id, p_job.channel);
  return array(
    select row(
      p_ids[n], 'defer', until,
      format(
        'sending cap: %s an hour and %s in 24 hours through the shared account (brainops.sending_caps); an account of the tenant''s own has none',
        coalesce(v_cap.per_hour::text, 'any number'), coalesce(v_cap.per_day::text, 'any number')
      )
    )::brainops.verdict
    from unnest(v_slots) with ordinality as s (until, n)
    where until is not null
  );
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
