-- Delays: how campaigns add time to an instant. Start at add_delay.

create or replace function brainops_internal.add_delay(p_at timestamptz, p_delay interval, p_time_zone text)
returns timestamptz
language plpgsql
stable
parallel safe
set search_path = ''
as $$
declare
  v_calendar interval := make_interval(
    years => extract(year from p_delay)::int,
    months => extract(month from p_delay)::int,
    days => extract(day from p_delay)::int
  );
begin
  -- Without days, avoids local time, which is ambiguous in the hour that is repeated in autumn.
  if v_calendar = '0' then
    return p_at + p_delay;
  end if;
  return ((p_at at time zone p_time_zone) + v_calendar) at time zone p_time_zone + (p_delay - v_calendar);
end;
$$;

comment on function brainops_internal.add_delay(timestamptz, interval, text) is
  'The instant p_delay after p_at: days, months and years by the calendar of the time zone, so the hour of the day stays across DST; hours and smaller units exactly.';

revoke execute on function brainops_internal.add_delay(timestamptz, interval, text) from public;
grant execute
on function brainops_internal.add_delay(timestamptz, interval, text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.time_between(p_from timestamptz, p_to timestamptz)
returns interval
language sql
immutable
parallel safe
as $$
  select make_interval(secs => (extract(epoch from p_to) - extract(epoch from p_from))::float8);
$$;

comment on function brainops_internal.time_between(timestamptz, timestamptz) is
  'The time between two instants, in seconds only, so that adding it ignores calendars and DST; negative if p_to is the earlier one.';

revoke execute on function brainops_internal.time_between(timestamptz, timestamptz) from public;
grant execute
on function brainops_internal.time_between(timestamptz, timestamptz)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

-- Adding more than 100 years to an instant could exceed the range of timestamptz.
create or replace function brainops_internal.is_interval(p_text text)
returns boolean
language plpgsql
stable
set search_path = ''
as $$
begin
  return coalesce(p_text::interval > '0' and p_text::interval <= '100 years', false);
exception
  when data_exception then return false;
end;
$$;

comment on function brainops_internal.is_interval(text) is
  'Whether the text is a positive interval of at most 100 years, such as 7 days; false for null.';

revoke execute on function brainops_internal.is_interval(text) from public;
grant execute
on function brainops_internal.is_interval(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create or replace function brainops_internal.lead_time_zone(p_tenant_id uuid, p_lead_id uuid)
returns text
language sql
stable
set search_path = ''
as $$
  select coalesce(l.time_zone, t.time_zone)
  from
    public.tenants as t
    left join public.revenue_leads as l on l.tenant_id = t.id and l.id = p_lead_id
  where t.id = p_tenant_id;
$$;

comment on function brainops_internal.lead_time_zone(uuid, uuid) is
  'The IANA time zone in which a lead''s days are counted: its own, else its tenant''s.';

revoke execute on function brainops_internal.lead_time_zone(uuid, uuid) from public;
grant execute on function brainops_internal.lead_time_zone(uuid, uuid) to brainops_system;
