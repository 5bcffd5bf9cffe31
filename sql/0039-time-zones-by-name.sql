-- A time zone is a name with its rules. Postgres takes offsets and abbreviations too, and both mislead: '+05:00' is POSIX,
-- where plus is west (a lead in Karachi was written to at one o'clock at night), and 'PST' or 'CET' is winter time all year.
-- Old workers go on meanwhile. Such zones of leads become null, and are looked for by number as for any other lead;
-- of tenants they become UTC, as by default.
set local lock_timeout = '2s';

create or replace function brainops.is_time_zone(p_name text)
returns boolean
language plpgsql
-- As immutable as the time zone database itself; a check constraint needs it so.
immutable
parallel safe
set search_path = ''
as $$
begin
  if p_name is null then
    return null;
  end if;
  if p_name ~ '/' then
    if p_name !~* '^(etc/gmt[+-]?[0-9]{1,2}|[a-z_]+(/[a-z_-]+)+)$' then
      return false;
    end if;
  elsif p_name !~* '^(utc|gmt|est5edt|cst6cdt|mst7mdt|pst8pdt)$' then
    if p_name !~* '^[a-z-]+$' or exists (select from pg_catalog.pg_timezone_abbrevs as a where a.abbrev = upper(p_name)) then
      return false;
    end if;
  end if;
  perform pg_catalog.timezone(p_name, '2000-01-01T00:00Z'::timestamptz);
  return true;
exception
  when others then return false;
end;
$$;

comment on function brainops.is_time_zone(text) is
  'Whether it is the name of a time zone, e.g. America/Denver; an offset (+05:00) or an abbreviation (PST) is none.';

update public.revenue_leads set time_zone = null where not brainops.is_time_zone(time_zone);
update public.tenants set time_zone = 'UTC' where not brainops.is_time_zone(time_zone);

create function brainops.refuse_time_zone()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  raise exception 'time_zone: % is not the name of a time zone', quote_literal(left(new.time_zone, 60))
    using errcode = 'check_violation', column = 'time_zone', table = tg_table_name, constraint = tg_table_name || '_time_zone_known',
      hint = 'Give a name such as America/Denver; an offset or an abbreviation does not know summer time.';
end;
$$;

create trigger a3_refuse_time_zone
before insert or update of time_zone on public.revenue_leads
for each row
when (not brainops.is_time_zone(new.time_zone))
execute function brainops.refuse_time_zone();

create trigger a3_refuse_time_zone
before insert or update of time_zone on public.tenants
for each row
when (not brainops.is_time_zone(new.time_zone))
execute function brainops.refuse_time_zone();

revoke execute on function brainops.refuse_time_zone() from public;
