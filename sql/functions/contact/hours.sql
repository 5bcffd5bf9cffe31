-- Quiet hours: in which hours of the week a person may be contacted, and when a message that has to wait may go. Start
-- at contact_hours; wall-clock.sql finds the instants at which these hours are open.

-- Hours that both the tenant and the law allow. If they have no hour in common, or the tenant's pass midnight, the legal
-- hours apply alone.
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

  -- The rows of the whole country are one group, those of each state another, and every group must allow the hour.
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
  'Contact hours of each weekday, Monday first, that the tenant''s policy and the law of the country and state allow; null for a closed day. p_state null: every state''s hours must agree. p_country null: the policy''s hours.';

revoke execute on function brainops_internal.contact_hours(public.contact_policies, text, text) from public;
grant execute
on function brainops_internal.contact_hours(public.contact_policies, text, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Spread over the first part of the next open hours, so that messages that waited overnight do not all go at once.
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
    -- The hours are never open: check again tomorrow, because the rules may be corrected by then.
    else coalesce(
      lower(v_open) + random() * least(p_spread, (upper(v_open) - lower(v_open)) / 2),
      p_at + interval '24 hours'
    )
  end;
end;
$$;

comment on function brainops_internal.spread_contact_time(timestamptz, text[], time[], time[], interval) is
  'p_at itself if the hours are open in all zones, else a random instant within p_spread (at most half of the opening) after they next open.';

revoke execute
on function brainops_internal.spread_contact_time(timestamptz, text[], time[], time[], interval)
from public;
grant execute
on function brainops_internal.spread_contact_time(timestamptz, text[], time[], time[], interval)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Runs with the engine's rights, because tenants may not call functions of brainops_internal.
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
    raise exception 'zones: cannot find a contact time in zones % at %', coalesce(p_zones::text, 'null'), coalesce(p_at::text, 'null')
      using errcode = 'OP015', hint = 'Give at least one IANA time zone, such as America/Denver, and a finite timestamp.';
  end if;
  select array_agg(case when p_weekdays is null or d = any (p_weekdays) then p_from end order by d),
    array_agg(case when p_weekdays is null or d = any (p_weekdays) then p_to end order by d)
    into v_opens, v_closes
    from generate_series(1, 7) as d;
  return lower(brainops_internal.contact_opening(p_at, p_zones, v_opens, v_closes));
end;
$$;

comment on function brainops.next_contact_time(timestamptz, text[], time, time, int[]) is
  'The first instant from p_at on at which the wall clock of every zone (IANA names) is within [p_from, p_to), in hours that begin on one of p_weekdays (1 Monday to 7 Sunday; null: any day). p_to before p_from: the hours pass midnight; equal: 24 hours. If the zones have no common instant within 14 days, the first zone decides. Null if p_weekdays is empty. OP015 without a zone or a finite p_at.';

alter function brainops.next_contact_time(timestamptz, text[], time, time, int[]) owner to brainops_system;
revoke execute on function brainops.next_contact_time(timestamptz, text[], time, time, int[]) from public;
grant execute
on function brainops.next_contact_time(timestamptz, text[], time, time, int[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
