-- Retention. A queue table is quick as long as it is small: rows that are done leave it for an
-- archive by months, whose oldest months are dropped whole (never a mass delete).
set local lock_timeout = '2s';

create table brainops.settings (
  name text primary key,
  value interval not null,
  description text not null,
  constraint settings_value_positive check (value > '0')
);

comment on table brainops.settings is 'Durations that admins may edit; description says what each does.';

insert into brainops.settings (name, value, description)
values
  ('drop_archive_after', '13 months', 'Months of brainops.job_archive older than this are dropped.'),
  ('drop_events_after', '3 months', 'Months of brainops.job_events older than this are dropped.'),
  ('drop_webhooks_after', '30 days', 'Processed rows of webhook_events older than this are deleted.');

grant select, update on brainops.settings to brainops_admin;
grant select on brainops.settings to brainops_system;

create table brainops.job_archive (
  tenant_id uuid not null,
  table_name text not null,
  row_id uuid not null,
  status text not null,
  finished_at timestamptz not null,
  job_row jsonb not null,
  archived_at timestamptz not null default now()
)
partition by range (finished_at);

create index job_archive_row on brainops.job_archive (tenant_id, row_id);

comment on table brainops.job_archive is
  'Job rows done for longer than job_tables.archive_after, by month of finished_at.';
comment on column brainops.job_archive.job_row is
  'The whole row as it was: jsonb_populate_record(null::ai_email_queue, job_row) gives it back.';

create trigger append_only
before update on brainops.job_archive
for each row
execute function brainops.refuse_change();

-- A partition is a table of its own: it gets row level security too, and no grants, so that
-- nobody reads past the parent's policies through it.
create function brainops.ensure_partitions(p_parent regclass, p_from date, p_months int)
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
      execute format('alter table brainops.%I enable row level security', v_name);
      execute format('alter table brainops.%I force row level security', v_name);
      execute format('create policy every_row on brainops.%I for all to brainops_admin, brainops_system using (true) with check (true)', v_name);
    end if;
  end loop;
end;
$$;

create function brainops.drop_partitions(p_parent regclass, p_before timestamptz)
returns setof text
language plpgsql
security definer
set search_path = ''
-- The parent is locked for it: behind a long reader it gives up rather than make every status
-- change wait. There are months of slack; the next night tries again.
set lock_timeout = '2s'
as $$
declare
  v_partition record;
begin
  for v_partition in
    -- As text: once dropped, the table has no name any more.
    select inhrelid::regclass::text as name, to_date(right(relname, 7), 'YYYY_MM') as month
    from pg_catalog.pg_inherits
    inner join pg_catalog.pg_class as c on c.oid = inhrelid
    where inhparent = p_parent
  loop
    if (v_partition.month + interval '1 month') at time zone 'UTC' <= p_before then
      execute format('drop table %s', v_partition.name);
      return next v_partition.name;
    end if;
  end loop;
end;
$$;

-- Moves rows done for longer than the table keeps them; p_most a table, so that no transaction is
-- long. Returns how many were moved; call again while it is p_most.
create function brainops.archive_done(p_most int default 5000)
returns table (table_name text, archived int)
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
  v_oldest date;
begin
  for v_job in select * from brainops.job_tables as j order by j.table_name
  loop
    execute format('select (min(finished_at) at time zone ''UTC'')::date from %s where finished_at < $1', v_job.relation)
      into v_oldest
      using brainops.now() - v_job.archive_after;
    table_name := v_job.table_name;
    archived := 0;
    if v_oldest is not null then
      perform brainops.ensure_partitions(
        'brainops.job_archive', v_oldest,
        (12 * extract(year from age(brainops.now(), v_oldest)) + extract(month from age(brainops.now(), v_oldest)))::int + 2
      );
      execute format(
        $sql$
        with gone as (
          delete from %1$s
          where id in (
            select id from %1$s where finished_at < $1 order by finished_at limit $2 for update skip locked
          )
          returning *
        )
        insert into brainops.job_archive (tenant_id, table_name, row_id, status, finished_at, job_row)
        select tenant_id, $3, id, status, finished_at, to_jsonb(gone) from gone
        $sql$,
        v_job.relation
      )
        using brainops.now() - v_job.archive_after, p_most, v_job.table_name;
      get diagnostics archived = row_count;
    end if;
    return next;
  end loop;
end;
$$;

comment on function brainops.archive_done(int) is
  'Moves done rows to brainops.job_archive, at most p_most a table. Run by the task maintenance__retain.';

alter function brainops.ensure_partitions(regclass, date, int) owner to brainops_system;
alter function brainops.drop_partitions(regclass, timestamptz) owner to brainops_system;

do $$
declare
  v_table regclass;
  v_function regprocedure;
begin
  foreach v_table in array array['brainops.job_archive', 'brainops.job_events']::regclass[]
  loop
    execute format('alter table %s enable row level security', v_table);
    execute format('alter table %s force row level security', v_table);
    execute format(
      'create policy own_tenant on %s for select to brainops_tenant, brainops_worker, brainops_service
         using (tenant_id = (select brainops.current_tenant_id()))',
      v_table
    );
    execute format('create policy every_row on %s for all to brainops_admin, brainops_system using (true) with check (true)', v_table);
    execute format('grant select on %s to brainops_tenant, brainops_worker, brainops_service, brainops_admin', v_table);
    execute format('alter table %s owner to brainops_system', v_table);
    -- A year ahead, though maintenance__retain adds months daily: a missing month would stop every
    -- status change.
    perform brainops.ensure_partitions(v_table, now()::date, 13);
  end loop;

  foreach v_function in array array[
    'brainops.ensure_partitions(regclass, date, int)',
    'brainops.drop_partitions(regclass, timestamptz)',
    'brainops.archive_done(int)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_system', v_function);
  end loop;
end;
$$;

create function brainops.retain_months()
returns setof text
language plpgsql
set search_path = ''
as $$
begin
  perform brainops.ensure_partitions('brainops.job_events', brainops.now()::date, 13);
  perform brainops.ensure_partitions('brainops.job_archive', brainops.now()::date, 2);
  return query
    select brainops.drop_partitions('brainops.job_archive', brainops.now() - (select value from brainops.settings where name = 'drop_archive_after'));
  return query
    select brainops.drop_partitions('brainops.job_events', brainops.now() - (select value from brainops.settings where name = 'drop_events_after'));
end;
$$;

-- At most p_most in one transaction; call again while it returns that many.
create function brainops.prune_webhook_events(p_most int default 5000)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  delete from public.webhook_events
  where id in (
    select id from public.webhook_events
    where processed_at < brainops.now() - (select value from brainops.settings where name = 'drop_webhooks_after')
    limit p_most
  );
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops.prune_webhook_events(int) is
  'Deletes processed webhook events past drop_webhooks_after, at most p_most; returns how many.';

revoke execute on function brainops.prune_webhook_events(int) from public;
grant execute on function brainops.prune_webhook_events(int) to brainops_system;

comment on function brainops.retain_months is
  'Makes the coming months of the archive and the events, drops those past brainops.settings; returns what was dropped.';

revoke execute on function brainops.retain_months() from public;
grant execute on function brainops.retain_months() to brainops_system;
