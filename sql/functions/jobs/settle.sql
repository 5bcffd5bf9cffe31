-- Settle: a worker writes the results of rows that it has claimed, in one short transaction as their tenant (role
-- brainops_worker). Start at brainops_internal.settle; the counterpart is brainops_internal.claim.
--
-- Lock order: the job rows, then graphile-worker's jobs (through the triggers).

-- Writes each result only if its lease is still on the row, so a late or second settle changes nothing.
create or replace function brainops_internal.settle(p_table text, p_settlements brainops.settlement[])
returns table (id uuid, status text)
language plpgsql
set search_path = ''
-- So that rows are found by their key: at the default of 4, the planner reads the whole table for 250 rows.
set random_page_cost = 1
as $$
declare
  -- Written once, used in several assignments below.
  c_status constant text := $sql$
    case
      when s.outcome = 'completed' then 'completed'
      when s.outcome = 'fail' then 'failed'
      when s.outcome = 'skip' then 'skipped'
      when s.outcome = 'unconfirmed' then 'unconfirmed'
      when t.cancel_requested_at is not null then 'cancelled'
      when s.outcome = 'retry' and t.attempts >= t.max_attempts then 'failed'
      when s.outcome = 'defer' and t.deferrals >= $3 then 'failed'
      else 'pending'
    end
  $sql$;
  v_job brainops.job_tables;
  v_results text;
begin
  if exists (
    select from unnest(p_settlements) as s
    where s.outcome is null or s.outcome not in ('completed', 'retry', 'defer', 'hold', 'fail', 'skip', 'unconfirmed')
  ) then
    raise exception 'outcome: expected completed, retry, defer, hold, fail, skip or unconfirmed'
      using errcode = 'invalid_parameter_value', hint = 'See the comment on type brainops.settlement.';
  end if;
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  select string_agg(
    format(', %1$I = case when s.result ? %1$L then (s.result ->> %1$L)::%2$s else t.%1$I end', a.attname, format_type(a.atttypid, a.atttypmod)),
    ''
  )
    into v_results
    from pg_catalog.pg_attribute as a
    where a.attrelid = v_job.relation::regclass and a.attname = any (v_job.result_columns);

  return query execute format(
    $sql$
    update %1$s as t
    set
      %4$s,
      scheduled_for = case
        when s.outcome = 'hold' or %2$s <> 'pending' then t.scheduled_for
        else coalesce(s.run_at, $2 + brainops_internal.retry_delay(t.attempts))
      end,
      attempts = t.attempts - (s.outcome in ('defer', 'hold'))::int,
      deferrals = t.deferrals + (s.outcome = 'defer')::int%3$s
    from unnest($1) as s
    -- No condition on the status, because the lease implies it. With one, the planner would choose the index of rows in
    -- processing, which it believes to be small but which is full of dead entries.
    where t.id = s.id and t.lease = s.lease
    returning t.id, t.status
    $sql$,
    v_job.relation, c_status, coalesce(v_results, ''),
    brainops_internal.settled_columns(
      c_status, '$2',
      p_skip_reason => 'case when s.outcome = ''skip'' then coalesce(s.reason, ''no reason given'') end',
      p_last_error => 'case when s.outcome in (''completed'', ''skip'') then null else coalesce(s.reason, t.last_error) end'
    )
  )
    using p_settlements, brainops.now(), v_job.max_deferrals;
end;
$$;

comment on function brainops_internal.settle(text, brainops.settlement[]) is
  'Writes results to rows of a job table whose lease still holds, and returns those rows with their new status. A late or second result changes nothing, and is left out of the answer. 22023: unknown outcome.';

revoke execute on function brainops_internal.settle(text, brainops.settlement[]) from public;
grant execute on function brainops_internal.settle(text, brainops.settlement[]) to brainops_worker;

-- For many rows that completed with the same result, as the rows of a bulk do: nothing is decided per row, and the
-- result is read once.
create or replace function brainops_internal.settle_completed(p_table text, p_ids uuid[], p_lease uuid, p_result jsonb)
returns setof uuid
language plpgsql
set search_path = ''
set random_page_cost = 1 -- as in brainops_internal.settle
as $$
declare
  v_job brainops.job_tables;
  v_names text;
  v_values text;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  select
    string_agg(format(', %1$I = r.%1$I', a.attname), '' order by a.attnum),
    string_agg(format(', (p ->> %1$L)::%2$s as %1$I', a.attname, format_type(a.atttypid, a.atttypmod)), '' order by a.attnum)
    into v_names, v_values
    from pg_catalog.pg_attribute as a
    where a.attrelid = v_job.relation::regclass and a.attname = any (v_job.result_columns) and p_result ? a.attname;
  return query execute format(
    $sql$
    update %1$s as t
    set
      %4$s%2$s
    from (select p%3$s from (values ($4)) as v (p) offset 0) as r
    where t.id = any ($1) and t.lease = $2
    returning t.id
    $sql$,
    v_job.relation, v_names, v_values, brainops_internal.settled_columns('''completed''', '$3')
  )
    using p_ids, p_lease, brainops.now(), p_result;
end;
$$;

comment on function brainops_internal.settle_completed(text, uuid[], uuid, jsonb) is
  'As brainops_internal.settle, for rows that were claimed under one lease and all completed with the same p_result. Returns the ids whose lease still held.';

revoke execute on function brainops_internal.settle_completed(text, uuid[], uuid, jsonb) from public;
grant execute on function brainops_internal.settle_completed(text, uuid[], uuid, jsonb) to brainops_worker;

-- What every settle writes, in one place: for single rows (settle), for many with one result (settle_completed), and
-- for rows whose worker died or lost them (settle_rows_of_dead_worker, settle_abandoned_rows).
create or replace function brainops_internal.settled_columns(
  p_status text,
  p_now text,
  p_skip_reason text default 'null',
  p_last_error text default 'null',
  p_worker_deaths text default 'least(t.worker_deaths, 1::smallint)'
)
returns text
language plpgsql
immutable
set search_path = ''
as $$
begin
  return format(
    'status = %1$s, finished_at = case when %1$s in (''completed'', ''failed'', ''skipped'', ''cancelled'') then %2$s end,
     skip_reason = %3$s, last_error = %4$s, worker_deaths = %5$s, lease = null, worker_id = null, rate_slot = null',
    p_status, p_now, p_skip_reason, p_last_error, p_worker_deaths
  );
end;
$$;

comment on function brainops_internal.settled_columns(text, text, text, text, text) is
  'The assignments of an update that ends a claim: a final status sets finished_at, and any status clears the lease. A suspect that is settled counts one death again, so it may run beside others until the next one. All arguments and the result are SQL; the updated table is t.';

revoke execute on function brainops_internal.settled_columns(text, text, text, text, text) from public;
grant execute
on function brainops_internal.settled_columns(text, text, text, text, text)
to brainops_worker, brainops_system;

-- The random part keeps rows that failed together from being tried again together.
create or replace function brainops_internal.retry_delay(p_attempt int)
returns interval
language sql
volatile
set search_path = ''
as $$
  select
    least(interval '15 seconds' * power(4, greatest(p_attempt, 1) - 1), interval '1 hour') * (0.8 + 0.4 * random());
$$;

comment on function brainops_internal.retry_delay(int) is
  'How long to wait after attempt p_attempt: 15 s, 1 min, 4 min, 16 min, then 1 h; each up to 20 % shorter or longer at random.';

revoke execute on function brainops_internal.retry_delay(int) from public;
grant execute
on function brainops_internal.retry_delay(int)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
