-- The sweep: each minute it repairs what was lost. Start at brainops_internal.sweep; the task maintenance__sweep
-- calls it.

-- Unlocks graphile-worker jobs whose pool belongs to no registered worker, settles rows that are in processing 12
-- minutes past their time limit, and queues jobs for due rows that have none. Works for all tenants, so it waits for a
-- lock for half a second: what a tenant has locked is left to the next minute.
create or replace function brainops_internal.sweep(p_most int default 10000)
returns table (table_name text, requeued int, timed_out int)
language plpgsql
set search_path = ''
set lock_timeout = '500ms'
as $$
declare
  v_job brainops.job_tables;
  v_orphans text[];
  -- Longer than a live worker tries to write a result (10 minutes), so that the sweep does not overtake it.
  c_patience constant interval := '12 minutes';
begin
  select array_agg(distinct j.locked_by) into v_orphans
    from graphile_worker.jobs as j
    where j.locked_by is not null
      and j.locked_at < now() - interval '30 seconds'
      and not exists (select from brainops.worker_processes as w where j.locked_by = any (w.pool_ids));
  if v_orphans is not null then
    perform graphile_worker.force_unlock_workers(v_orphans);
  end if;

  for v_job in select * from brainops.job_tables as j order by j.table_name
  loop
    table_name := v_job.table_name;
    begin
      timed_out := brainops_internal.settle_abandoned_rows(v_job, v_job.time_limit + c_patience, 'its worker did not settle it within the time limit');
    exception
      when lock_not_available then timed_out := 0;
    end;
    begin
      requeued := brainops_internal.requeue(v_job, null, p_most);
    exception
      when lock_not_available then requeued := 0;
    end;
    return next;
  end loop;
end;
$$;

comment on function brainops_internal.sweep(int) is
  'Repairs what was lost: queues jobs for due rows that have none (at most p_most per table), settles rows stuck in processing, unlocks orphaned graphile-worker jobs. Returns the numbers of jobs queued and rows settled per job table. Called once a minute.';

revoke execute on function brainops_internal.sweep(int) from public;
grant execute on function brainops_internal.sweep(int) to brainops_system;

-- For rows that a live worker has lost. Effect not idempotent: unconfirmed. Idempotent: cancelled if that was requested,
-- failed after the last attempt, else pending. For workers that died, see settle_rows_of_dead_worker.
create or replace function brainops_internal.settle_abandoned_rows(
  p_job brainops.job_tables,
  p_older_than interval,
  p_reason text
)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_count int;
begin
  execute format(
    $sql$
    update %1$s as t
    set
      %2$s,
      scheduled_for = case when n.status = 'pending' then $3 else t.scheduled_for end
    from (
      select
        s.id,
        case
          when not $4 then 'unconfirmed'
          when s.cancel_requested_at is not null then 'cancelled'
          when s.attempts >= s.max_attempts then 'failed'
          else 'pending'
        end as status
      from %1$s as s
      where s.status = 'processing' and s.started_at <= $3 - $1
      for update skip locked
    ) as n
    where t.id = n.id
    $sql$,
    p_job.relation,
    brainops_internal.settled_columns('n.status', '$3', p_last_error => '$2', p_worker_deaths => 't.worker_deaths')
  )
    using p_older_than, p_reason, brainops.now(), p_job.effect_is_idempotent;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops_internal.settle_abandoned_rows(brainops.job_tables, interval, text) is
  'Settles rows in processing that started at least p_older_than ago. p_reason goes to last_error. Returns their number.';

revoke execute on function brainops_internal.settle_abandoned_rows(brainops.job_tables, interval, text) from public;
grant execute
on function brainops_internal.settle_abandoned_rows(brainops.job_tables, interval, text)
to brainops_system;

create or replace function brainops_internal.set_waiting_reason(p_task_identifier text, p_reason text)
returns int
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
  v_count int;
begin
  select * into v_job from brainops.job_tables as j where j.task_identifier = p_task_identifier;
  if not found or exists (
    select from brainops.worker_processes as w
    where p_task_identifier = any (w.tasks) and brainops_internal.worker_is_alive(w.number, w.backend_pid)
  ) then
    return 0;
  end if;
  execute format(
    'update %s set last_error = $1 where id in (
       select id from %s
       where status = ''pending'' and scheduled_for <= $2 and last_error is distinct from $1
       limit 10000 for update skip locked
     )',
    v_job.relation, v_job.relation
  )
    using p_reason, brainops.now();
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops_internal.set_waiting_reason(text, text) is
  'Writes p_reason into last_error of the due rows of a task that no live worker offers, at most 10,000; returns their number.';

revoke execute on function brainops_internal.set_waiting_reason(text, text) from public;
grant execute on function brainops_internal.set_waiting_reason(text, text) to brainops_system;
