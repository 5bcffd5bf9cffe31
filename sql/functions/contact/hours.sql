-- The hours of each weekday in which both the tenant and the law allow it; null for a day without.
-- Where the two have no hour in common at all, the law's stand alone.
create or replace function brainops_internal.contact_hours(
  p_policy public.contact_policies,
  p_country text,
  p_state text,
  out opens time[],
  out closes time[]
)
returns record
language plpgsql
stable
set search_path = ''
as $$
declare
  v_law_from time[];
  v_law_to time[];
  v_wraps boolean := p_policy.window_end <= p_policy.window_start;
begin
  select array_agg(case when d = any (p_policy.weekdays) then p_policy.window_start end order by d),
    array_agg(case when d = any (p_policy.weekdays) then p_policy.window_end end order by d)
    into opens, closes
    from generate_series(1, 7) as d;
  if p_country is null or not exists (
    select from brainops.contact_windows as w where w.country = p_country and w.channel = p_policy.channel
  ) then
    return;
  end if;

  -- Whole country and state are a group each, and every group must agree.
  select array_agg(case when not closed then law_from end order by d), array_agg(case when not closed then law_to end order by d)
    into v_law_from, v_law_to
    from (
      select d, max(w.window_from) as law_from, min(w.window_to) as law_to,
        bool_or(w.id is null) or max(w.window_from) >= min(w.window_to) as closed
      from generate_series(1, 7) as d
      cross join (
        select distinct c.state
        from brainops.contact_windows as c
        where c.country = p_country and c.channel = p_policy.channel
          and (c.state is null or p_state is null or c.state = p_state)
      ) as g
      left join brainops.contact_windows as w
        on w.country = p_country and w.channel = p_policy.channel
        and w.state is not distinct from g.state and d = any (w.weekdays)
      group by d
    ) as days;
  if v_law_from is null then
    return;
  end if;
  if not v_wraps then
    select array_agg(case when f < t then f end order by d), array_agg(case when f < t then t end order by d)
      into opens, closes
      from (
        select d,
          case when opens[d] is not null then greatest(opens[d], v_law_from[d]) end as f,
          case when v_law_to[d] is not null then least(closes[d], v_law_to[d]) end as t
        from generate_series(1, 7) as d
      ) as both_allow;
  end if;
  if v_wraps or array_remove(opens, null) = '{}' then
    opens := v_law_from;
    closes := v_law_to;
  end if;
end;
$$;

comment on function brainops_internal.contact_hours(public.contact_policies, text, text) is
  'The hours of each weekday, Monday first, in which the tenant and the law allow it; null for a day without.';

revoke execute on function brainops_internal.contact_hours(contact_policies, text, text) from public;
grant execute
on function brainops_internal.contact_hours(contact_policies, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The instant in (p_from, p_to] at which the zone's offset changes, given that it differs between
-- the two. Offsets change on whole seconds, and never twice within a day.
create or replace function brainops_internal.offset_change(p_from timestamptz, p_to timestamptz, p_zone text)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = ''
set timezone = 'UTC'
as $$
declare
  v_before bigint := floor(extract(epoch from p_from));
  v_after bigint := floor(extract(epoch from p_to));
  v_offset constant interval := (p_from at time zone p_zone) - (p_from at time zone 'UTC');
  v_middle bigint;
begin
  while v_after - v_before > 1 loop
    v_middle := (v_before + v_after) / 2;
    if (to_timestamp(v_middle) at time zone p_zone) - (to_timestamp(v_middle) at time zone 'UTC') = v_offset then
      v_before := v_middle;
    else
      v_after := v_middle;
    end if;
  end loop;
  return to_timestamp(v_after);
end;
$$;

comment on function brainops_internal.offset_change(timestamptz, timestamptz, text) is
  'The instant within (from, to] at which the zone''s offset changes.';

revoke execute on function brainops_internal.offset_change(timestamptz, timestamptz, text) from public;
grant execute
on function brainops_internal.offset_change(timestamptz, timestamptz, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- From when, at or after p_at, the zone's wall clock stands inside the hours, and until when at
-- least; upper is no later than the next change of the zone's offset. Goes from instant to instant
-- with the offset that holds there, so an hour that is skipped or comes twice is what people see
-- on their clocks. Null where the hours are empty.
create or replace function brainops_internal.zone_opening(
  p_at timestamptz,
  p_zone text,
  p_opens time[],
  p_closes time[]
)
returns tstzrange
language plpgsql
stable
parallel safe
set search_path = ''
set timezone = 'UTC' -- an interval of one day is 24 hours
as $$
declare
  v_at timestamptz := p_at;
  v_wall timestamp;
  v_start timestamp;
  v_end timestamp;
  v_to timestamptz;
  v_day int;
begin
  -- Each turn ends in an open hour, or goes on by up to a day.
  for i in 1..40 loop
    v_wall := v_at at time zone p_zone;
    v_start := null;
    -- A window that began yesterday may still be open.
    for d in -1..7 loop
      v_day := extract(isodow from v_wall::date + d);
      continue when p_opens[v_day] is null;
      v_end := v_wall::date + d + p_closes[v_day]
        + case when p_closes[v_day] <= p_opens[v_day] then interval '1 day' else '0' end;
      if v_end > v_wall then
        v_start := v_wall::date + d + p_opens[v_day];
        exit;
      end if;
    end loop;
    if v_start is null then
      return null;
    end if;

    v_to := v_at + least(case when v_start <= v_wall then v_end - v_wall else v_start - v_wall end, '1 day');
    if (v_to at time zone p_zone) - v_wall <> v_to - v_at then
      v_to := brainops_internal.offset_change(v_at, v_to, p_zone);
    end if;
    if v_start <= v_wall then
      return tstzrange(v_at, v_to);
    end if;
    v_at := v_to;
  end loop;
  return null;
end;
$$;

comment on function brainops_internal.zone_opening(timestamptz, text, time[], time[]) is
  'From when, at or after an instant, one zone''s clock stands inside the hours, and until when at least.';

revoke execute on function brainops_internal.zone_opening(timestamptz, text, time[], time[]) from public;
grant execute
on function brainops_internal.zone_opening(timestamptz, text, time[], time[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The same for several zones at once. Where they have no instant in common within 14 days, the
-- first zone alone decides: it is the most populous one that a number may lie in.
create or replace function brainops_internal.contact_opening(
  p_at timestamptz,
  p_zones text[],
  p_opens time[],
  p_closes time[]
)
returns tstzrange
language plpgsql
stable
parallel safe
set search_path = ''
as $$
declare
  v_at timestamptz := p_at;
  v_common tstzrange;
  v_open tstzrange;
begin
  while v_at <= p_at + interval '336 hours' loop
    v_common := tstzrange(v_at, null);
    for i in 1..cardinality(p_zones) loop
      v_open := brainops_internal.zone_opening(v_at, p_zones[i], p_opens, p_closes);
      exit when v_open is null or lower(v_open) > v_at;
      v_common := v_common * v_open;
    end loop;
    exit when v_open is null;
    if lower(v_open) = v_at then
      return v_common;
    end if;
    -- No earlier instant is open in that zone.
    v_at := lower(v_open);
  end loop;
  return brainops_internal.zone_opening(p_at, p_zones[1], p_opens, p_closes);
end;
$$;

comment on function brainops_internal.contact_opening(timestamptz, text[], time[], time[]) is
  'From when, at or after an instant, the clocks of all zones stand inside the hours, and until when at least.';

revoke execute on function brainops_internal.contact_opening(timestamptz, text[], time[], time[]) from public;
grant execute
on function brainops_internal.contact_opening(timestamptz, text[], time[], time[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops.next_contact_time(
  p_at timestamptz,
  p_zones text[],
  p_from time,
  p_to time,
  p_weekdays int[] default null
)
returns timestamptz
language plpgsql
stable
parallel safe
security definer
set search_path = ''
as $$
declare
  v_opens time[];
  v_closes time[];
begin
  if coalesce(cardinality(p_zones), 0) = 0 or array_position(p_zones, null) is not null or not isfinite(p_at) then
    raise exception 'zones: % at % names no place and time', coalesce(p_zones::text, 'null'), coalesce(p_at::text, 'null')
      using errcode = 'OP015', hint = 'Give at least one IANA time zone, e.g. America/Denver, and a finite instant.';
  end if;
  select array_agg(case when p_weekdays is null or d = any (p_weekdays) then p_from end order by d),
    array_agg(case when p_weekdays is null or d = any (p_weekdays) then p_to end order by d)
    into v_opens, v_closes
    from generate_series(1, 7) as d;
  return lower(brainops_internal.contact_opening(p_at, p_zones, v_opens, v_closes));
end;
$$;

comment on function brainops.next_contact_time(timestamptz, text[], time, time, int[]) is
  'The first instant at or after p_at at which the wall clock stands in [from, to) in every zone, on a weekday (1 Monday to 7 Sunday, null: any) on which the window begins. to before from: past midnight; the same: 24 hours. No common instant within 14 days: the first zone''s alone. Null: no weekday.';

alter function brainops.next_contact_time(timestamptz, text[], time, time, int[]) owner to brainops_system;
revoke execute on function brainops.next_contact_time(timestamptz, text[], time, time, int[]) from public;
grant execute
on function brainops.next_contact_time(timestamptz, text[], time, time, int[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- When a message that may not go at p_at may: at p_at itself if that is open, else over the first
-- part of the next open hours, so that a morning does not burst.
create or replace function brainops_internal.spread_contact_time(
  p_at timestamptz,
  p_zones text[],
  p_opens time[],
  p_closes time[],
  p_spread interval
)
returns timestamptz
language plpgsql
volatile
set search_path = ''
as $$
declare
  v_open tstzrange := brainops_internal.contact_opening(p_at, p_zones, p_opens, p_closes);
begin
  return case
    when lower(v_open) <= p_at then p_at
    -- No hour is open at all: the rules may be mended by tomorrow.
    else coalesce(
      lower(v_open) + random() * least(p_spread, (upper(v_open) - lower(v_open)) / 2),
      p_at + interval '24 hours'
    )
  end;
end;
$$;

comment on function brainops_internal.spread_contact_time(timestamptz, text[], time[], time[], interval) is
  'The instant itself where the hours are open, else one in the first part of the next open hours, by chance.';

revoke execute
on function brainops_internal.spread_contact_time(timestamptz, text[], time[], time[], interval)
from public;
grant execute
on function brainops_internal.spread_contact_time(timestamptz, text[], time[], time[], interval)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The zones that a person may be in: the lead's own, else those of the phone number (the address,
-- or the lead's), else the tenant's.
create or replace function brainops.address_zones(p_tenant_id uuid, p_lead_id uuid, p_address text)
returns text[]
language sql
stable
security definer
set search_path = ''
as $$
  select p.zones
  from
    brainops_internal.recipient_contexts(
      case
        when p_address like '%@%' then 'email'
        else 'sms'
      end,
      array[row(null, p_tenant_id, p_lead_id, p_address, true, null, p_address, null, null)::brainops.contact]
    ) as p
  where brainops_internal.may_act_for(p_tenant_id);
$$;

comment on function brainops.address_zones(uuid, uuid, text) is
  'Time zones that a person may be in: the lead''s, else those of the phone number, else the tenant''s.';

alter function brainops.address_zones(uuid, uuid, text) owner to brainops_system;
revoke execute on function brainops.address_zones(uuid, uuid, text) from public;
grant execute
on function brainops.address_zones(uuid, uuid, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
