-- A publication of all tables, as for an upgrade by logical replication, refuses every update and delete of a table
-- whose rows it cannot tell apart. Tables with a primary key can; these three have none.
-- Old workers go on meanwhile. Each table is locked for a moment, and nothing is rewritten.
set local lock_timeout = '2s';

alter table brainops.lead_keys replica identity using index lead_keys_once;

-- As in 0007, with the replica identity: only the whole row tells an event, or what was archived, from
-- others. It costs where rows are erased (brainops.forget) or archived anew, not where they are written.
create or replace function brainops.ensure_partitions(p_parent regclass, p_from date, p_months int)
returns void
language plpgsql
-- So that every partition belongs to brainops_system, whichever worker's login made it.
security definer
set search_path = ''
-- The parent is locked for it: behind a long reader it gives up rather than make every status
-- change wait. There are months of slack; the next night tries again.
set lock_timeout = '2s'
as $$
declare
  v_month date;
  v_name text;
begin
  for i in 0..p_months - 1
  loop
    v_month := (date_trunc('month', p_from) + make_interval(months => i))::date;
    v_name := (select relname from pg_catalog.pg_class where oid = p_parent) || to_char(v_month, '_YYYY_MM');
    if to_regclass(format('brainops.%I', v_name)) is null then
      -- Bounds in UTC, whatever the session's time zone.
      execute format(
        'create table brainops.%I partition of %s for values from (%L) to (%L)',
        v_name, p_parent,
        v_month::text || ' 00:00+00', (v_month + interval '1 month')::date::text || ' 00:00+00'
      );
      execute format('alter table brainops.%I replica identity full', v_name);
      execute format('alter table brainops.%I enable row level security', v_name);
      execute format('alter table brainops.%I force row level security', v_name);
      execute format('create policy every_row on brainops.%I for all to brainops_admin, brainops_system using (true) with check (true)', v_name);
    end if;
  end loop;
end;
$$;

do $$
declare
  v_partition regclass;
begin
  for v_partition in
    select inhrelid::regclass
    from pg_catalog.pg_inherits
    where inhparent in ('brainops.job_events'::regclass, 'brainops.job_archive'::regclass)
    order by 1
  loop
    execute format('alter table %s replica identity full', v_partition);
  end loop;
end;
$$;
