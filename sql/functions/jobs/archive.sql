-- Retention: finished rows move from the job tables to brainops.job_archive, old months of the archive and of the
-- events are dropped, and old webhook events and delivery reports are deleted. Start at brainops.archive_done. The
-- nightly task maintenance__retain calls all of it.
--
-- A queue table is fast only while it is small. The archive and the events are partitioned by month, because dropping a
-- partition costs nothing, and deleting its rows would bloat the table.

-- Moves rows that finished longer than job_tables.archive_after ago. Moves at most p_most rows per table, to keep the
-- transaction short; call again while `archived` of any table equals p_most. Skips rows that are locked.
create or replace function brainops.archive_done(p_most int default 5000)
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
      perform brainops_internal.ensure_partitions(
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
  'Moves finished rows that are older than job_tables.archive_after to brainops.job_archive, at most p_most per job table. Returns one row per job table with the number moved; call again while one of them equals p_most. The nightly task maintenance__retain does that.';

revoke execute on function brainops.archive_done(int) from public;
grant execute on function brainops.archive_done(int) to brainops_system;

-- A partition is a table of its own: it gets row level security too, and no grants, so that no client can read past the
-- parent's policies by naming the partition.
--
-- Replica identity is the whole row, because these tables have no primary key. Without a replica identity, a
-- publication of all tables (for an upgrade by logical replication) makes Postgres refuse every update and delete. It
-- costs something where rows are erased (brainops.forget) or archived again, not where they are written.
create or replace function brainops_internal.ensure_partitions(p_parent regclass, p_from date, p_months int)
returns void
language plpgsql
-- So that every partition belongs to brainops_system, whichever worker's login created it.
security definer
set search_path = ''
-- Adding a partition locks the parent. Behind a long reader, give up after 2 s instead of making every status change
-- wait behind this lock. Months are created far ahead, so the next night is early enough.
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

comment on function brainops_internal.ensure_partitions(regclass, date, int) is
  'Creates the partitions of p_months months that do not exist yet, beginning with the month of p_from, in schema brainops and with bounds in UTC. 55P03 if the parent cannot be locked within 2 s.';

alter function brainops_internal.ensure_partitions(regclass, date, int) owner to brainops_system;
revoke execute on function brainops_internal.ensure_partitions(regclass, date, int) from public;

create or replace function brainops_internal.drop_partitions(p_parent regclass, p_before timestamptz)
returns setof text
language plpgsql
security definer
set search_path = ''
-- Dropping a partition locks the parent. As in ensure_partitions, the next night tries again.
set lock_timeout = '2s'
as $$
declare
  v_partition record;
begin
  for v_partition in
    -- As text, because the name cannot be looked up once the table is dropped.
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

comment on function brainops_internal.drop_partitions(regclass, timestamptz) is
  'Drops the partitions whose month (UTC) ended at or before p_before, and returns their names. 55P03 if the parent cannot be locked within 2 s.';

alter function brainops_internal.drop_partitions(regclass, timestamptz) owner to brainops_system;
revoke execute on function brainops_internal.drop_partitions(regclass, timestamptz) from public;

create or replace function brainops.retain_months()
returns setof text
language plpgsql
set search_path = ''
as $$
begin
  perform brainops_internal.ensure_partitions('brainops.job_events', brainops.now()::date, 13);
  perform brainops_internal.ensure_partitions('brainops.job_archive', brainops.now()::date, 2);
  return query
    select brainops_internal.drop_partitions('brainops.job_archive', brainops.now() - (select value from brainops.settings where name = 'drop_archive_after'));
  return query
    select brainops_internal.drop_partitions('brainops.job_events', brainops.now() - (select value from brainops.settings where name = 'drop_events_after'));
end;
$$;

comment on function brainops.retain_months is
  'Creates the partitions of the coming months (13 of brainops.job_events, 2 of brainops.job_archive), drops those that are older than drop_events_after and drop_archive_after of brainops.settings, and returns the names of the dropped ones. The nightly task maintenance__retain calls it.';

revoke execute on function brainops.retain_months() from public;
grant execute on function brainops.retain_months() to brainops_system;

-- Deletes at most p_most rows, to keep the transaction short; call again while it returns p_most.
create or replace function brainops_internal.prune_webhook_events(p_most int default 5000)
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

comment on function brainops_internal.prune_webhook_events(int) is
  'Deletes at most p_most webhook events that were processed longer than drop_webhooks_after ago; returns their number.';

revoke execute on function brainops_internal.prune_webhook_events(int) from public;
grant execute on function brainops_internal.prune_webhook_events(int) to brainops_system;

-- Delivery reports are deleted after a time, as the messages are: there is a row for each delivery, open and click.
-- What people decided (unsubscribes and the like) is kept, because it still applies.
create or replace function brainops_internal.prune_reports(p_most int default 5000)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_before timestamptz := brainops.now() - (select s.value from brainops.settings as s where s.name = 'drop_reports_after');
  v_count int;
  v_most int := 0;
begin
  delete from public.email_deliveries
  where id in (
    select d.id from public.email_deliveries as d
    where d.occurred_at < v_before
      -- The latest of these events decides whether mail may be sent to the address (brainops_internal.settle_consent).
      and d.event not in ('unsubscribe', 'group_unsubscribe', 'group_resubscribe')
      and not (d.event = 'dropped' and lower(d.metadata ->> 'reason') is not distinct from 'unsubscribed address')
    limit p_most
  );
  get diagnostics v_count = row_count;
  v_most := greatest(v_most, v_count);

  delete from public.email_bounces
  where id in (select b.id from public.email_bounces as b where b.occurred_at < v_before limit p_most);
  get diagnostics v_count = row_count;
  v_most := greatest(v_most, v_count);

  delete from public.sms_deliveries
  where id in (select d.id from public.sms_deliveries as d where d.occurred_at < v_before limit p_most);
  get diagnostics v_count = row_count;
  return greatest(v_most, v_count);
end;
$$;

comment on function brainops_internal.prune_reports(int) is
  'Deletes rows of email_deliveries, email_bounces and sms_deliveries that are older than drop_reports_after, at most p_most per table; returns the largest number deleted from one table.';

revoke execute on function brainops_internal.prune_reports(int) from public;
grant execute on function brainops_internal.prune_reports(int) to brainops_system;
