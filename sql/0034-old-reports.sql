-- What providers report on messages goes after a time, as the messages do: a row for each delivery, open and
-- click was kept for good. What people said (unsubscribes and their like) stays, for it still counts.
-- Old workers go on meanwhile and leave it all.
set local lock_timeout = '2s';

insert into brainops.settings
  (name, value, description)
values
  (
    'drop_reports_after',
    '13 months',
    'Reports on messages (email_deliveries, email_bounces, sms_deliveries) older than this are deleted; unsubscribes and resubscribes stay.'
  );

-- Summaries of a few bytes for every 128 pages: reports come in by their time, and are only looked for by night.
-- squawk-ignore require-concurrent-index-creation
create index email_deliveries_occurred_at on public.email_deliveries using brin (occurred_at);
-- squawk-ignore require-concurrent-index-creation
create index email_bounces_occurred_at on public.email_bounces using brin (occurred_at);
-- squawk-ignore require-concurrent-index-creation
create index sms_deliveries_occurred_at on public.sms_deliveries using brin (occurred_at);

create function brainops.prune_reports(p_most int default 5000)
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
      -- An address may be written to again or not by the last of these (brainops.settle_consent).
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

comment on function brainops.prune_reports(int) is
  'Deletes reports on messages past drop_reports_after, at most p_most a table; returns how many of the table with the most. Run by the task maintenance__retain.';

revoke execute on function brainops.prune_reports(int) from public;
grant execute on function brainops.prune_reports(int) to brainops_system;
