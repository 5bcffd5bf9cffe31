-- The job-row engine, second half: claim and settle, each one call in one short transaction as
-- the tenant (role brainops_worker), and the function that makes a table a job table.
--
-- Between the two no transaction is open and no lock is held: the lease, a uuid that only the
-- claimer knows, is what makes a settle count. A late or second settler changes nothing.
set local lock_timeout = '2s';

-- Locks what of p_ids is due, asks the gates, and writes processing, a fresh lease and
-- attempts + 1 on the rows that go. Rows that another claim holds, or that are not due any more,
-- are left out of the answer.
create function brainops.claim(p_table text, p_ids uuid[], p_worker_id uuid, p_lease uuid default gen_random_uuid())
returns table (id uuid, outcome text, lease uuid, attempt int, reason text)
language plpgsql
set search_path = ''
as $$
declare
  -- A slot that was not used within this time is void: after a pause nothing bursts.
  c_slot_kept constant interval := '1 minute';
  v_job brainops.job_tables;
  v_tenant_id uuid;
  v_ids uuid[];
  v_now timestamptz := brainops.now();
  v_in_slot uuid[];
  v_rest uuid[];
  v_slots timestamptz[];
  v_reason text;
  v_allowed int;
  v_ask_at timestamptz;
  v_verdicts brainops.verdict[] := '{}';
  v_more brainops.verdict[];
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  v_tenant_id := brainops.current_tenant_id();

  execute format(
    'select
       array_agg(s.id order by s.job_priority, s.scheduled_for, s.id),
       coalesce(array_agg(s.id) filter (where s.rate_slot between $2 - $3 and $2), ''{}'')
     from (
       select id, job_priority, scheduled_for, rate_slot from %s
       where id = any ($1) and status = ''pending'' and scheduled_for <= $2
       for update skip locked
     ) as s',
    v_job.relation
  )
    into v_ids, v_in_slot
    using p_ids, v_now, c_slot_kept;
  if v_ids is null then
    return;
  end if;

  -- A standstill comes first: nothing is decided about a row that may not move.
  v_reason := brainops.pause_reason(p_table, v_tenant_id);
  if v_reason is not null then
    select array_agg(row(i, 'hold', null, v_reason)::brainops.verdict) into v_verdicts from unnest(v_ids) as i;
    v_ids := '{}';
  end if;

  if v_job.gate is not null and v_ids <> '{}' then
    execute format('select coalesce(array_agg(g), ''{}'') from %s($1) as g', v_job.gate)
      into v_more
      using v_ids;
    v_verdicts := v_verdicts || v_more;
    select coalesce(array_agg(i order by n), '{}') into v_ids
      from unnest(v_ids) with ordinality as u (i, n)
      where i not in (select (v).id from unnest(v_more) as v);
  end if;

  if v_ids <> '{}' and exists (select from brainops.rate_limits as r where r.table_name = p_table) then
    -- Rows that come back to the slot they were given pass; the others take one.
    select coalesce(array_agg(i order by n), '{}') into v_rest
      from unnest(v_ids) with ordinality as u (i, n)
      where i <> all (v_in_slot);
    v_slots := case when v_rest <> '{}' then brainops.take_rate_slots(p_table, v_tenant_id, cardinality(v_rest)) end;
    if v_slots is not null then
      select coalesce(array_agg(row(i, 'slot', v_slots[n], 'rate limit')::brainops.verdict), '{}') into v_more
        from unnest(v_rest) with ordinality as u (i, n)
        where v_slots[n] > v_now;
      v_verdicts := v_verdicts || v_more;
      select coalesce(array_agg(i order by n), '{}') into v_ids
        from unnest(v_ids) with ordinality as u (i, n)
        where i not in (select (v).id from unnest(v_more) as v);
    end if;
  end if;

  -- Last, because a probe that it allows must really go.
  if v_job.sender is not null and v_ids <> '{}' then
    select b.allowed, b.ask_at into v_allowed, v_ask_at
      from brainops.ask_breaker(v_job.sender, cardinality(v_ids), v_job.time_limit + interval '10 seconds') as b;
    if v_allowed < cardinality(v_ids) then
      select array_agg(row(i, 'defer', v_ask_at + random() * interval '2 seconds', 'circuit breaker of ' || v_job.sender || ' is open')::brainops.verdict)
        into v_more
        from unnest(v_ids[v_allowed + 1:]) as i;
      v_verdicts := v_verdicts || v_more;
      v_ids := v_ids[:v_allowed];
    end if;
  end if;

  if v_verdicts <> '{}' then
    return query execute format(
      'update %s as t
       set
         status = case v.outcome when ''skip'' then ''skipped'' when ''fail'' then ''failed'' else t.status end,
         scheduled_for = case when v.outcome in (''defer'', ''slot'') then v.until else t.scheduled_for end,
         rate_slot = case when v.outcome = ''slot'' then v.until end,
         skip_reason = case when v.outcome = ''skip'' then v.reason end,
         last_error = case when v.outcome = ''skip'' then t.last_error else v.reason end
       from unnest($1) as v
       where t.id = v.id
       returning t.id, v.outcome, null::uuid, t.attempts, v.reason',
      v_job.relation
    )
      using v_verdicts;
  end if;

  if v_ids <> '{}' then
    return query execute format(
      'update %s as t
       set
         status = ''processing'',
         lease = $4,
         worker_id = $2,
         attempts = t.attempts + 1,
         started_at = $3
       where t.id = any ($1)
       returning t.id, ''go'', t.lease, t.attempts, null::text',
      v_job.relation
    )
      using v_ids, p_worker_id, v_now, p_lease;
  end if;
end;
$$;

comment on function brainops.claim(text, uuid[], uuid, uuid) is
  'Claims the due rows among the ids for a worker. outcome: go (with a lease), skip, fail, defer, slot or hold; a row that is not due or held elsewhere is left out.';

-- When to try again after attempt n: 15 s, 1 min, 4 min, 16 min, then each hour; ±20 % so that
-- rows that failed together do not come back together.
create function brainops.retry_delay(p_attempt int)
returns interval
language sql
volatile
set search_path = ''
as $$
  select
    least(interval '15 seconds' * power(4, greatest(p_attempt, 1) - 1), interval '1 hour') * (0.8 + 0.4 * random());
$$;

comment on function brainops.retry_delay(int) is
  'How long to wait after attempt n: 15 s, 1 min, 4 min, 16 min, then 1 h; 20 % more or less by chance.';

create type brainops.settlement as (id uuid, lease uuid, outcome text, run_at timestamptz, reason text, result jsonb);

comment on type brainops.settlement is
  'How an effect ended. outcome: completed, retry (run_at null: by brainops.retry_delay), defer (the provider said later; costs no attempt), fail, skip or unconfirmed. result fills the table''s result_columns.';

-- Writes results where the lease still holds, and returns those rows with the status they got.
create function brainops.settle(p_table text, p_settlements brainops.settlement[])
returns table (id uuid, status text)
language plpgsql
set search_path = ''
as $$
declare
  -- Spelled once, used in each assignment below.
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
    where s.outcome is null or s.outcome not in ('completed', 'retry', 'defer', 'fail', 'skip', 'unconfirmed')
  ) then
    raise exception 'outcome: expected completed, retry, defer, fail, skip or unconfirmed'
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
      status = %2$s,
      scheduled_for = case when %2$s = 'pending' then coalesce(s.run_at, $2 + brainops.retry_delay(t.attempts)) else t.scheduled_for end,
      attempts = t.attempts - (s.outcome = 'defer')::int,
      deferrals = t.deferrals + (s.outcome = 'defer')::int,
      finished_at = case when %2$s in ('completed', 'failed', 'skipped', 'cancelled') then $2 end,
      skip_reason = case when s.outcome = 'skip' then coalesce(s.reason, 'no reason given') end,
      last_error = case when s.outcome in ('completed', 'skip') then null else coalesce(s.reason, t.last_error) end,
      lease = null,
      worker_id = null,
      rate_slot = null%3$s
    from unnest($1) as s
    where t.id = s.id and t.lease = s.lease and t.status = 'processing'
    returning t.id, t.status
    $sql$,
    v_job.relation, c_status, coalesce(v_results, '')
  )
    using p_settlements, brainops.now(), v_job.max_deferrals;
end;
$$;

comment on function brainops.settle(text, brainops.settlement[]) is
  'Writes how effects ended, where the lease still holds; a late or second settler changes nothing and is left out of the answer.';

grant execute
on function brainops.claim(text, uuid[], uuid, uuid), brainops.settle(text, brainops.settlement[])
to brainops_worker;

-- All job tables as one, rebuilt whenever there is a new one.
create function brainops.rebuild_jobs_view()
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_query text;
begin
  select string_agg(
    format(
      'select %L::text as table_name, id, tenant_id, status, scheduled_for, attempts, max_attempts, deferrals, last_error,
         skip_reason, job_priority, idempotency_key, worker_id, cancel_requested_at, started_at, finished_at, created_at
       from %s',
      j.table_name, j.relation
    ),
    ' union all ' order by j.table_name
  )
    into v_query
    from brainops.job_tables as j;
  execute 'create or replace view brainops.jobs with (security_invoker = true) as ' || v_query;
  comment on view brainops.jobs is
    'The rows of every job table, with the columns they share. Write to the tables themselves, or through brainops.retry, cancel and confirm.';
end;
$$;

-- Makes a table a job table: adds what is missing, never takes anything away.
create function brainops.define_job_table(
  p_table regclass,
  p_task_identifier text,
  p_effect_is_idempotent boolean,
  p_channel text default null,
  p_gate text default null,
  p_sender text default null,
  p_result_columns text[] default '{}',
  p_time_limit interval default '30 seconds',
  p_max_attempts int default 5
)
returns void
language plpgsql
-- Tenants may not name what the engine writes.
set search_path = ''
as $$
declare
  c_engine_columns constant text[] := array[
    'attempts', 'deferrals', 'last_error', 'skip_reason', 'lease', 'worker_id', 'started_at',
    'finished_at', 'rate_slot', 'cancel_requested_at'
  ];
  v_columns text;
  v_editable text;
  v_name text := (select relname from pg_catalog.pg_class where oid = p_table);
  v_schema text := (select nspname from pg_catalog.pg_class inner join pg_catalog.pg_namespace as n on n.oid = relnamespace where pg_class.oid = p_table);
begin
  execute format(
    'alter table %1$s
       add column if not exists id uuid primary key default gen_random_uuid(),
       add column if not exists tenant_id uuid not null,
       add column if not exists status text not null default ''pending'',
       add column if not exists scheduled_for timestamptz not null default now(),
       add column if not exists job_priority smallint not null default 0,
       add column if not exists idempotency_key text,
       add column if not exists attempts int not null default 0,
       add column if not exists max_attempts int not null default %2$s,
       add column if not exists deferrals int not null default 0,
       add column if not exists last_error text,
       add column if not exists skip_reason text,
       add column if not exists lease uuid,
       add column if not exists worker_id uuid,
       add column if not exists rate_slot timestamptz,
       add column if not exists cancel_requested_at timestamptz,
       add column if not exists started_at timestamptz,
       add column if not exists finished_at timestamptz,
       add column if not exists created_at timestamptz not null default now()',
    p_table, p_max_attempts
  );

  -- One rule each; together they are the state machine.
  execute format(
    $sql$
    alter table %1$s
      add constraint %2$s_status_known check (
        status in ('pending', 'processing', 'completed', 'failed', 'cancelled', 'skipped', 'unconfirmed', 'awaiting_approval')
      ),
      add constraint %2$s_processing_has_lease check ((status = 'processing') = (lease is not null)),
      add constraint %2$s_done_has_finished_at check (
        (status in ('completed', 'failed', 'cancelled', 'skipped')) = (finished_at is not null)
      ),
      add constraint %2$s_skipped_has_reason check ((status = 'skipped') = (skip_reason is not null)),
      add constraint %2$s_scheduled_for_finite check (isfinite(scheduled_for)),
      add constraint %2$s_job_priority_range check (job_priority between -50 and 50),
      add constraint %2$s_max_attempts_range check (max_attempts between 1 and 25),
      add constraint %2$s_attempts_not_negative check (attempts >= 0),
      add constraint %2$s_tenant_row unique (tenant_id, id)
    $sql$,
    p_table, v_name
  );

  execute format('create unique index %2$s_idempotency_key on %1$s (tenant_id, idempotency_key) where idempotency_key is not null', p_table, v_name);
  execute format('create index %2$s_pending on %1$s (tenant_id, scheduled_for) where status = ''pending''', p_table, v_name);
  execute format('create index %2$s_processing on %1$s (worker_id) where status = ''processing''', p_table, v_name);
  execute format('create index %2$s_attention on %1$s (tenant_id, status) where status in (''failed'', ''unconfirmed'', ''awaiting_approval'')', p_table, v_name);
  execute format('create index %2$s_done on %1$s (finished_at) where finished_at is not null', p_table, v_name);
  -- A queue table changes all the time: vacuum it early, and leave room on each page.
  execute format(
    'alter table %s set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)',
    p_table
  );

  perform brainops.guard_table(p_table, p_reference_tenants => false);

  -- Tenants and services write what they ask for; what came of it is the engine's to write.
  select
    string_agg(quote_ident(attname), ', '),
    string_agg(quote_ident(attname), ', ') filter (where attname not in ('id', 'tenant_id', 'created_at'))
    into v_columns, v_editable
    from pg_catalog.pg_attribute
    where attrelid = p_table and attnum > 0 and not attisdropped and attgenerated = ''
      and attname <> all (c_engine_columns || p_result_columns);
  execute format('revoke insert, update on %s from brainops_tenant, brainops_service', p_table);
  execute format('grant insert (%1$s), update (%2$s) on %3$s to brainops_tenant, brainops_service', v_columns, v_editable, p_table);

  insert into brainops.job_tables (table_name, relation, task_identifier, channel, effect_is_idempotent, gate, sender, result_columns, time_limit)
  values (brainops.job_table_name(v_schema, v_name), format('%I.%I', v_schema, v_name), p_task_identifier, p_channel, p_effect_is_idempotent, p_gate, p_sender, p_result_columns, p_time_limit);

  -- Rows that are as the defaults make them need no function.
  execute format(
    'create trigger b0_before_job_insert before insert on %s for each row
       when (
         new.status is distinct from ''pending'' or new.scheduled_for is null or new.attempts <> 0 or new.deferrals <> 0
         or new.lease is not null or new.worker_id is not null or new.rate_slot is not null
         or new.cancel_requested_at is not null or new.finished_at is not null or new.skip_reason is not null
       )
       execute function brainops.before_job_insert()',
    p_table
  );
  execute format(
    'create trigger b1_before_job_update before update on %s for each row
       when (
         (old.status is distinct from new.status or new.scheduled_for is null or old.tenant_id <> new.tenant_id)
         -- a claim and a settle, known by the lease, write what is right already
         and not (new.status = ''processing'' and old.status = ''pending'' and old.lease is null and new.lease is not null)
         and not (old.status = ''processing'' and old.lease is not null and new.lease is null)
       )
       execute function brainops.before_job_update()',
    p_table
  );
  execute format('create trigger c0_after_job_insert after insert on %s referencing new table as inserted for each statement execute function brainops.after_job_insert()', p_table);
  execute format(
    'create trigger c1_after_job_update after update on %s referencing old table as before_rows new table as after_rows
       for each statement execute function brainops.after_job_update()',
    p_table
  );
  execute format('create trigger c2_after_job_delete after delete on %s referencing old table as deleted for each statement execute function brainops.after_job_delete()', p_table);

  perform brainops.rebuild_jobs_view();
  grant select on brainops.jobs to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
end;
$$;

comment on function brainops.define_job_table(regclass, text, boolean, text, text, text, text[], interval, int) is
  'Makes a table a job table: engine columns, checks, triggers, guard. Task: the file in tasks/. idempotent: whether the effect may be tried again after a crash. For the table''s owner.';

revoke execute
on function brainops.define_job_table(regclass, text, boolean, text, text, text, text[], interval, int),
brainops.rebuild_jobs_view(),
brainops.guard_table(regclass, boolean),
brainops.protect_table(regclass)
from public;

-- Takes a claim back whose answer was lost with the connection, before any effect began. By its
-- lease, so that a newer claim of the same rows stays untouched.
create function brainops.unclaim(p_table text, p_ids uuid[], p_lease uuid)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_job brainops.job_tables;
begin
  select * into strict v_job from brainops.job_tables as j where j.table_name = p_table;
  -- First the lock: the lost claim's commit may still be under way, and its outcome decides.
  execute format('select from %s where id = any ($1) order by id for update', v_job.relation) using p_ids;
  execute format(
    'update %s set status = ''pending'', attempts = attempts - 1, lease = null, worker_id = null
     where id = any ($1) and status = ''processing'' and lease = $2',
    v_job.relation
  )
    using p_ids, p_lease;
end;
$$;

comment on function brainops.unclaim(text, uuid[], uuid) is
  'Gives rows back that a worker claimed without hearing so; only for rows whose effect has not begun.';

grant execute on function brainops.unclaim(text, uuid[], uuid) to brainops_worker;

-- The engine's own pause, when a provider refuses everything: the current tenant's, or everybody's.
create function brainops.pause_sender(p_table text, p_everyone boolean, p_reason text)
returns void
language sql
security definer
set search_path = ''
as $$
  insert into brainops.pauses (table_name, tenant_id, reason)
  values
    (
      p_table,
      case
        when not p_everyone then brainops.current_tenant_id()
      end,
      p_reason
    )
  on conflict (tenant_id, table_name, channel) do update set reason = excluded.reason;
$$;

comment on function brainops.pause_sender(text, boolean, text) is
  'Pauses a table because its provider refuses everything: for the current tenant, or for everyone.';

alter function brainops.pause_sender(text, boolean, text) owner to brainops_system;
revoke execute on function brainops.pause_sender(text, boolean, text) from public;
grant execute on function brainops.pause_sender(text, boolean, text) to brainops_worker;
