-- Retention. A queue table is quick as long as it is small: rows that are done leave it for an
-- archive by months, whose oldest months are dropped whole (never a mass delete).

-- Moves rows done for longer than the table keeps them; p_most a table, so that no transaction is
-- long. Returns how many were moved; call again while it is p_most.
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
  'Moves done rows to brainops.job_archive, at most p_most a table. Run by the task maintenance__retain.';

revoke execute on function brainops.archive_done(int) from public;
grant execute on function brainops.archive_done(int) to brainops_system;

-- A publication of all tables, as for an upgrade by logical replication, refuses every update and delete of a table
-- whose rows it cannot tell apart. Tables with a primary key can; these three have none.
--
-- A partition is a table of its own: it gets row level security too, and no grants, so that
-- nobody reads past the parent's policies through it.
-- As in 0007, with the replica identity: only the whole row tells an event, or what was archived, from
-- others. It costs where rows are erased (brainops.forget) or archived anew, not where they are written.
create or replace function brainops_internal.ensure_partitions(p_parent regclass, p_from date, p_months int)
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

alter function brainops_internal.ensure_partitions(regclass, date, int) owner to brainops_system;
revoke execute on function brainops_internal.ensure_partitions(regclass, date, int) from public;

create or replace function brainops_internal.drop_partitions(p_parent regclass, p_before timestamptz)
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
  'Makes the coming months of the archive and the events, drops those past brainops.settings; returns what was dropped.';

revoke execute on function brainops.retain_months() from public;
grant execute on function brainops.retain_months() to brainops_system;

-- At most p_most in one transaction; call again while it returns that many.
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
  'Deletes processed webhook events past drop_webhooks_after, at most p_most; returns how many.';

revoke execute on function brainops_internal.prune_webhook_events(int) from public;
grant execute on function brainops_internal.prune_webhook_events(int) to brainops_system;

-- What providers report on messages goes after a time, as the messages do: a row for each delivery, open and
-- click was kept for good. What people said (unsubscribes and their like) stays, for it still counts.
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
      -- An address may be written to again or not by the last of these (brainops_internal.settle_consent).
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
  'Deletes reports on messages past drop_reports_after, at most p_most a table; returns how many of the table with the most. Run by the task maintenance__retain.';

revoke execute on function brainops_internal.prune_reports(int) from public;
grant execute on function brainops_internal.prune_reports(int) to brainops_system;
