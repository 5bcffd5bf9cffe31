-- Pace: hourly limits, warm-up, and how rows that waited together are released over time. Start at hourly_verdicts, the
-- last of the contact rules; spread_rows releases rows after a pause or a hold.

create or replace function brainops_internal.hourly_verdicts(
  p_policy public.contact_policies,
  p_places brainops.recipient_context[]
)
returns setof brainops.verdict
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_times timestamptz[] := brainops_internal.reserve_hourly_slots(p_policy.tenant_id, p_policy.channel, cardinality(p_places));
begin
  return query
    select
      p.id,
      'defer',
      brainops_internal.spread_contact_time(t.until, p.zones, p.opens, p.closes, p_policy.spread),
      'hourly limit: the warm-up or hourly_limit allows no more messages in this hour'
    from unnest(p_places) with ordinality
      as p (id, lead_ids, emails, phones, zones, country, state, opens, closes, goes_at, n)
    inner join unnest(v_times) with ordinality as t (until, n) on t.n = p.n
    where t.until is not null;
end;
$$;

comment on function brainops_internal.hourly_verdicts(public.contact_policies, brainops.recipient_context[]) is
  'Messages that are over the hourly limit, and when to check them again. Takes slots for the others.';

revoke execute
on function brainops_internal.hourly_verdicts(public.contact_policies, brainops.recipient_context[])
from public;
grant execute
on function brainops_internal.hourly_verdicts(public.contact_policies, brainops.recipient_context[])
to brainops_worker;

-- Messages that do not fit into this hour are spread over later hours that have free slots, up to 14 days ahead, so
-- that a backlog is not checked again every hour. A slot in a later hour is a time to ask again, not a permission. The
-- upsert of an hour's row locks it, so slots are counted once for claims that run at the same time; hours are locked in
-- ascending order.
create or replace function brainops_internal.reserve_hourly_slots(p_tenant_id uuid, p_channel text, p_n int)
returns timestamptz[]
language plpgsql
security definer
set search_path = ''
set timezone = 'UTC'
as $$
declare
  c_hours_ahead constant int := 14 * 24;
  v_now constant timestamptz := brainops.now();
  v_hour timestamptz := date_trunc('hour', v_now);
  v_limit int := brainops_internal.hourly_limit(p_tenant_id, p_channel, v_now);
  v_room int;
  v_take int;
  v_places timestamptz[] := '{}';
begin
  -- While the provider account's breaker is open, only a probe goes; it takes no slot.
  if v_limit is null or exists (
    select
    from brainops.circuit_breakers as b
    inner join brainops.job_tables as j on b.account in (j.provider, j.provider || ':' || p_tenant_id)
    where j.channel = p_channel and b.opened_at is not null
  ) then
    return array_fill(null::timestamptz, array[p_n]);
  end if;

  insert into brainops.contact_counts as c (tenant_id, channel, hour)
  values (p_tenant_id, p_channel, v_hour)
  on conflict (tenant_id, channel, hour) do update set taken = c.taken
  returning v_limit - c.taken into v_room;
  v_take := greatest(least(p_n, v_room), 0);
  if v_take > 0 then
    update brainops.contact_counts set taken = taken + v_take
    where tenant_id = p_tenant_id and channel = p_channel and hour = v_hour;
    v_places := array_fill(null::timestamptz, array[v_take]);
  end if;

  for i in 1..c_hours_ahead loop
    exit when cardinality(v_places) = p_n;
    v_hour := v_hour + interval '1 hour';
    v_limit := coalesce(brainops_internal.hourly_limit(p_tenant_id, p_channel, v_hour), p_n);
    insert into brainops.contact_counts as c (tenant_id, channel, hour)
    values (p_tenant_id, p_channel, v_hour)
    on conflict (tenant_id, channel, hour) do update set taken = c.taken
    returning v_limit - c.promised into v_room;
    v_take := case when i = c_hours_ahead then p_n - cardinality(v_places) else least(p_n - cardinality(v_places), v_room) end;
    continue when v_take <= 0;
    update brainops.contact_counts set promised = promised + v_take
    where tenant_id = p_tenant_id and channel = p_channel and hour = v_hour;
    v_places := v_places || (select array_agg(v_hour + random() * interval '55 minutes') from generate_series(1, v_take));
  end loop;
  delete from brainops.contact_counts
  where tenant_id = p_tenant_id and channel = p_channel and hour < v_now - interval '3 days';
  return v_places;
end;
$$;

comment on function brainops_internal.reserve_hourly_slots(uuid, text, int) is
  'Slots for p_n marketing messages under the hourly limit, one element each: null may go now, an instant is when to ask again.';

alter function brainops_internal.reserve_hourly_slots(uuid, text, int) owner to brainops_system;
revoke execute on function brainops_internal.reserve_hourly_slots(uuid, text, int) from public;
grant execute on function brainops_internal.reserve_hourly_slots(uuid, text, int) to brainops_worker;

create or replace function brainops_internal.hourly_limit(p_tenant_id uuid, p_channel text, p_at timestamptz)
returns int
language sql
stable
set search_path = ''
as $$
  select least(p.hourly_limit, w.plan[greatest((p_at at time zone t.time_zone)::date - w.started_on, 0) + 1])
  from
    public.tenants as t
    left join public.contact_policies as p on p.tenant_id = t.id and p.channel = p_channel
    left join public.sender_warmups as w on w.tenant_id = t.id and w.channel = p_channel
  where t.id = p_tenant_id;
$$;

comment on function brainops_internal.hourly_limit(uuid, text, timestamptz) is
  'Marketing messages that may go in the hour of p_at: the lower of the warm-up''s and the policy''s limit; null: no limit.';

revoke execute on function brainops_internal.hourly_limit(uuid, text, timestamptz) from public;
grant execute
on function brainops_internal.hourly_limit(uuid, text, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.start_warmup(p_tenant text, p_channel text, p_plan int[] default null)
returns void
language sql
set search_path = ''
as $$
  insert into public.sender_warmups as w (tenant_id, channel, started_on, plan)
  select
    t.id,
    p_channel,
    (brainops.now() at time zone t.time_zone)::date,
    -- SendGrid's automatic warm-up of an IP address: messages per hour, by day.
    coalesce(
      p_plan,
      '{20,28,39,55,77,108,151,211,295,413,579,810,1000,1587,2222,3111,4356,6098,8583,11953,16734,23427,32798,45917,64284,89998,125997,176395,246953,345735,484029,677640,948696,1328175,1859444,2603222}'
    )
  from public.tenants as t
  where t.id = brainops_internal.tenant_id_of(p_tenant)
  on conflict (tenant_id, channel) do update
    set
      started_on = excluded.started_on,
      plan = excluded.plan;
$$;

comment on function brainops.start_warmup(text, text, int[]) is
  'Starts a warm-up today (in the tenant''s time zone), or starts it again: limits marketing of the tenant (slug or id) on the channel (email or sms) per hour. p_plan: messages per hour on the first day, on the second, and so on, each above 0; null: SendGrid''s plan, 36 days from 20 an hour. Delete the row of sender_warmups to end it. OP007 for an unknown tenant, 23514 for another channel or plan.';

revoke execute on function brainops.start_warmup(text, text, int[]) from public;
grant execute on function brainops.start_warmup(text, text, int[]) to brainops_admin, brainops_system;

-- Evenly: 20 rows a second, or the pace of the table's rate limit; without a rate limit faster if needed, so that all
-- are due within an hour. Tenants take turns, each with its most urgent rows first.
create or replace function brainops_internal.spread_rows(p_job brainops.job_tables, p_tenant_id uuid, p_waiting text)
returns int
language plpgsql
set search_path = ''
as $$
declare
  c_step constant interval := interval '1 second' / 20;
  c_longest constant interval := '1 hour';
  v_per_second numeric := (
    select min(per_second) from brainops.rate_limits
    where table_name = p_job.table_name and (tenant_id is null or tenant_id = p_tenant_id)
  );
  v_count int;
begin
  -- keep_first_due reads this setting: the new time does not come from a client, so first_due_at stays, and expiry
  -- keeps counting from it.
  perform set_config('brainops.spreading', 'on', true);
  execute format(
    $sql$
    with
      open_tenants as materialized (
        select id from public.tenants where ($2 is null or id = $2) and brainops_internal.pause_reason($3, id) is null
      ),
      waiting as (
        select t.id, t.job_priority, t.scheduled_for,
          row_number() over (partition by t.tenant_id order by t.job_priority, t.scheduled_for, t.id) as turn
        from %1$s as t
        inner join open_tenants as o on o.id = t.tenant_id
        where t.status = 'pending' and case when $4 is null then t.scheduled_for < $1 else t.last_error like $4 end
      ),
      places as (
        select id, row_number() over (order by turn, job_priority, scheduled_for, id) - 1 as n, count(*) over () as total
        from waiting
      )
    update %1$s as t
    set scheduled_for = $1 + p.n * least($5, $6 / p.total), last_error = null
    from places as p
    where t.id = p.id and t.status = 'pending'
    $sql$,
    p_job.relation
  )
    using brainops.now(), p_tenant_id, p_job.table_name, p_waiting,
      coalesce(interval '1 second' / v_per_second::float8, c_step), case when v_per_second is null then c_longest end;
  get diagnostics v_count = row_count;
  perform set_config('brainops.spreading', '', true);
  return v_count;
end;
$$;

comment on function brainops_internal.spread_rows(brainops.job_tables, uuid, text) is
  'Releases waiting rows of a job table, spread over time, and returns their number. p_tenant_id null: all tenants. p_waiting null: rows that are due; else rows whose last_error is like it. Paused tenants are left out.';

revoke execute on function brainops_internal.spread_rows(brainops.job_tables, uuid, text) from public;
grant execute
on function brainops_internal.spread_rows(brainops.job_tables, uuid, text)
to brainops_admin, brainops_system;
