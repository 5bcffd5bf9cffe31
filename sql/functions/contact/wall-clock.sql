-- Wall clocks: from contact hours in time zones to instants. Start at contact_opening. The functions step from instant
-- to instant with the offset in force there, so an hour that is skipped or repeated when clocks change is treated as
-- people see it on their clocks.

-- If the zones have no common instant within 14 days, the first zone decides: it is the most populous one that a number
-- may be in.
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
    -- That zone is closed until then.
    v_at := lower(v_open);
  end loop;
  return brainops_internal.zone_opening(p_at, p_zones[1], p_opens, p_closes);
end;
$$;

comment on function brainops_internal.contact_opening(timestamptz, text[], time[], time[]) is
  'When, at or after p_at, the hours are open in all zones, and until when at least. p_opens, p_closes: as returned by contact_hours. Null if they never are.';

revoke execute on function brainops_internal.contact_opening(timestamptz, text[], time[], time[]) from public;
grant execute
on function brainops_internal.contact_opening(timestamptz, text[], time[], time[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- The upper bound is no later than the next change of the zone's offset.
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
set timezone = 'UTC' -- so that an interval of one day is 24 hours
as $$
declare
  v_at timestamptz := p_at;
  v_wall timestamp;
  v_start timestamp;
  v_end timestamp;
  v_to timestamptz;
  v_day int;
begin
  -- Each iteration returns an opening, or advances by up to a day.
  for i in 1..40 loop
    v_wall := v_at at time zone p_zone;
    v_start := null;
    -- Hours that began yesterday may still be open.
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
  'When, at or after p_at, the hours are open in one zone, and until when at least. Null if they never are.';

revoke execute on function brainops_internal.zone_opening(timestamptz, text, time[], time[]) from public;
grant execute
on function brainops_internal.zone_opening(timestamptz, text, time[], time[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- A binary search: offsets change on whole seconds, and at most once within a day.
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
  'The instant in (p_from, p_to] at which the zone''s offset changes, for two instants with different offsets that are at most a day apart.';

revoke execute on function brainops_internal.offset_change(timestamptz, timestamptz, text) from public;
grant execute
on function brainops_internal.offset_change(timestamptz, timestamptz, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
