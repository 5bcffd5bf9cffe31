-- Job tables. A row is work to be done once, and the source of truth about that work; its graphile-worker job only
-- wakes it. Triggers keep the jobs in step with the rows, whichever client writes the rows (functions/jobs/rows.sql).
--
--                    ┌──────────── retry at T, deferred until T ───────────┐
--                    ▼                                                     │
--   insert ──▶ pending ──claim──▶ processing ──settle──▶ completed         │
--                │ ▲                   ├──────────────▶ failed             │
--                │ │                   ├──────────────▶ skipped            │
--                │ │                   ├──────────────▶ cancelled          │
--                │ │                   ├──────────────▶ unconfirmed ──▶ completed | pending
--                │ │                   └───────────────────────────────────┘
--                │ └── update … set status = 'pending': runs it again, from any status but processing
--                └──── cancelled | skipped
--   awaiting_approval ──approved──▶ pending
--
-- Terms:
--   batch             rows of one table and tenant that are claimed, or settled, in one transaction
--   bulk              rows that share one provider call, such as recipients of a broadcast; they have the same value in
--                     the column that job_tables.bulk_column names
--   lease             a uuid, fresh for each claim; a row is settled only under the lease that is written on it
--   provider account  what one circuit breaker covers: sendgrid is the platform's account, sendgrid:<tenant id> is a
--                     tenant's own
--   in flight         claimed and not settled: status processing
--   suspect           a row that was in flight when its worker died, twice (worker_deaths >= 2). It is claimed alone,
--                     by a process that does nothing else, and fails only if that process dies too
--
-- Outcomes, with the same names in types verdict and settlement below, in brainops_internal.claim and in TypeScript:
--
--                gate  claim  settle   the row becomes
--   go             -     x      -      processing
--   alone          -     x      -      pending as before: a suspect, which must be claimed alone
--   slot           -     x      -      pending, due at its slot of a rate limit
--   hold           x     x      x      pending, due as before; costs no attempt
--   defer          x     x      x      pending, due at the given time; costs no attempt
--   skip           x     x      x      skipped
--   fail           x     x      x      failed
--   completed      -     -      x      completed
--   retry          -     -      x      pending, due later; failed after max_attempts
--   unconfirmed    -     -      x      unconfirmed
--
-- Lock order: the job row, then graphile-worker's job. Triggers run after the row is locked, and nothing locks a
-- graphile-worker job before a row.
--
-- Compatibility: rolling; creates tables that no older program reads.
set local lock_timeout = '2s';

create table brainops.job_columns (
  name text primary key,
  position smallint not null unique,
  definition text not null,
  client_inserts boolean not null,
  client_updates boolean not null,
  initial text,
  is_listed boolean not null,
  is_loaded boolean not null
);

comment on table brainops.job_columns is
  'The columns that every job table has. brainops.define_job_table adds and grants them, the view brainops.jobs shows them, and workers load them, all by this list.';
comment on column brainops.job_columns.position is
  'The order of the columns in brainops.jobs, and in which they are added to a table.';
comment on column brainops.job_columns.definition is 'Type, default and constraints, as in create table.';
comment on column brainops.job_columns.client_inserts is 'True if tenants and services may give a value on insert.';
comment on column brainops.job_columns.client_updates is 'True if tenants and services may update it.';
comment on column brainops.job_columns.initial is
  'SQL of the value that a new row must have; null if any value is accepted.';
comment on column brainops.job_columns.is_listed is 'True if brainops.jobs shows it.';
comment on column brainops.job_columns.is_loaded is 'True if a worker loads it with the row for a handler.';

insert into brainops.job_columns
  (position, name, definition, client_inserts, client_updates, initial, is_listed, is_loaded)
values
  (1, 'id', 'uuid primary key default gen_random_uuid()', true, false, null, true, true),
  (2, 'tenant_id', 'uuid not null', true, false, null, true, true),
  (3, 'status', 'text not null default ''pending''', true, true, '''pending''', true, false),
  (4, 'scheduled_for', 'timestamptz not null default now()', true, true, null, true, false),
  (5, 'attempts', 'int not null default 0', false, false, '0', true, true),
  (6, 'max_attempts', 'int not null default 5', true, true, null, true, true),
  (7, 'deferrals', 'int not null default 0', false, false, '0', true, false),
  (8, 'last_error', 'text', false, false, null, true, false),
  (9, 'skip_reason', 'text', false, false, 'null', true, false),
  (10, 'job_priority', 'smallint not null default 0', true, true, null, true, false),
  (11, 'idempotency_key', 'text', true, true, null, true, true),
  (12, 'worker_id', 'uuid', false, false, 'null', true, false),
  (13, 'cancel_requested_at', 'timestamptz', false, false, 'null', true, false),
  (14, 'started_at', 'timestamptz', false, false, null, true, false),
  (15, 'finished_at', 'timestamptz', false, false, 'null', true, false),
  (16, 'created_at', 'timestamptz not null default now()', true, false, null, true, true),
  (17, 'lease', 'uuid', false, false, 'null', false, false),
  (18, 'rate_slot', 'timestamptz', false, false, 'null', false, false),
  (19, 'worker_deaths', 'smallint not null default 0', false, false, '0', true, false);

-- The first half of brainops.define_job_table: the columns of a job table. It stands in a numbered file because the
-- indexes and generated columns of job tables need these columns, and functions are applied later.
create function brainops_internal.add_job_columns(p_table regclass, p_max_attempts int default 5)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_name text := (select relname from pg_catalog.pg_class where oid = p_table);
  v_columns text := (
    select string_agg(format('add column if not exists %I %s', name, definition), ', ' order by position)
    from brainops.job_columns
  );
begin
  execute format('alter table %s %s', p_table, v_columns);
  execute format('alter table %s alter column max_attempts set default %s', p_table, p_max_attempts);

  -- One rule for each constraint; together they are the state machine.
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
      add constraint %2$s_idempotency_key_at_most_1000_bytes check (octet_length(idempotency_key) <= 1000),
      add constraint %2$s_tenant_row unique (tenant_id, id)
    $sql$,
    p_table, v_name
  );

  execute format('create unique index %2$s_idempotency_key on %1$s (tenant_id, idempotency_key) where idempotency_key is not null', p_table, v_name);
  execute format('create index %2$s_pending on %1$s (tenant_id, scheduled_for) where status = ''pending''', p_table, v_name);
  execute format('create index %2$s_processing on %1$s (worker_id) where status = ''processing''', p_table, v_name);
  execute format('create index %2$s_attention on %1$s (tenant_id, status) where status in (''failed'', ''unconfirmed'', ''awaiting_approval'')', p_table, v_name);
  execute format('create index %2$s_done on %1$s (finished_at) where finished_at is not null', p_table, v_name);
  -- A queue table is updated all the time: vacuum it early, and leave room on each page.
  execute format(
    'alter table %s set (fillfactor = 80, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0)',
    p_table
  );
end;
$$;

comment on function brainops_internal.add_job_columns(regclass, int) is
  'Adds the engine''s columns, checks and indexes to a table. Columns that exist are kept. Called once per table, by its owner.';

revoke execute on function brainops_internal.add_job_columns(regclass, int) from public;

create type brainops.verdict as (id uuid, outcome text, until timestamptz, reason text);

comment on type brainops.verdict is
  'Why a row may not go now. outcome: defer (until the time given), hold (until what reason names is resolved), skip or fail (never; reason says why). A gate returns no verdict for a row that may go. Claims use it for rate limits as well: slot, until.';

create type brainops.settlement as (id uuid, lease uuid, outcome text, run_at timestamptz, reason text, result jsonb);

comment on type brainops.settlement is
  'The result of one row, under the lease of its claim. outcome: completed; retry (at run_at, or after brainops_internal.retry_delay if null; costs an attempt); defer (to run_at, the same if null; costs no attempt); hold (as before the claim; costs no attempt); fail, skip or unconfirmed. reason is stored in last_error or skip_reason; result fills the table''s result_columns.';

create table brainops.job_tables (
  table_name text primary key,
  relation text not null unique,
  task_identifier text not null unique,
  channel text,
  effect_is_idempotent boolean not null,
  gate text,
  provider text,
  result_columns text[] not null default '{}',
  time_limit interval not null default '30 seconds',
  max_deferrals int not null default 500,
  archive_after interval not null default '30 days',
  bulk_column text,
  bulk_max int not null default 1000,
  constraint job_tables_time_limit_positive check (time_limit > '0'),
  constraint job_tables_archive_after_positive check (archive_after > '0'),
  -- The name of a tenant's own account has a colon, that of the platform's has none.
  constraint job_tables_provider_plain check (position(':' in provider) = 0),
  -- A claim may name up to 250 rows itself.
  constraint job_tables_bulk_max_range check (bulk_max between 250 and 5000)
);

comment on table brainops.job_tables is
  'The job tables, written by brainops.define_job_table. Admins may update time_limit, max_deferrals, archive_after and bulk_max.';
comment on column brainops.job_tables.table_name is
  'The name that people use, such as ai_email_queue; with its schema if that is not public.';
comment on column brainops.job_tables.relation is
  'Schema and name, quoted where necessary, such as public.ai_email_queue.';
comment on column brainops.job_tables.task_identifier is 'The graphile-worker task: the name of a file in tasks/.';
comment on column brainops.job_tables.channel is
  'The channel that brainops.pause can name: email, sms, …; null if the table has none.';
comment on column brainops.job_tables.effect_is_idempotent is
  'True: a row whose worker died is tried again. False: it becomes unconfirmed.';
comment on column brainops.job_tables.gate is
  'Function (uuid[]) returning setof brainops.verdict, called while the rows are locked; null for none.';
comment on column brainops.job_tables.provider is
  'The provider whose accounts the effect goes through, such as sendgrid; each account has a circuit breaker. Null for none.';
comment on column brainops.job_tables.result_columns is
  'Columns besides the engine''s own that a completed outcome may fill.';
comment on column brainops.job_tables.time_limit is
  'How long an effect may take, above zero; after that its signal is aborted.';
comment on column brainops.job_tables.max_deferrals is 'How often a row may be deferred before it fails.';
comment on column brainops.job_tables.archive_after is
  'How long finished rows stay in the table, above zero; then they move to brainops.job_archive.';
comment on column brainops.job_tables.bulk_column is
  'Column (uuid) whose value is shared by rows that may go out in one provider call; null if each row has a call of its own.';
comment on column brainops.job_tables.bulk_max is 'How many rows of a bulk a claim takes at most, 250 to 5000.';

-- One row per change of a status, never changed afterwards. Inserts have no event: the row's created_at says when,
-- and an event for each would double the number of rows written.
create table brainops.job_events (
  id bigint generated always as identity,
  tenant_id uuid not null,
  table_name text not null,
  row_id uuid not null,
  from_status text not null,
  to_status text not null,
  attempt int not null,
  detail text,
  changed_by name not null default session_user,
  at timestamptz not null default now()
)
partition by range (at);

create index job_events_row on brainops.job_events using hash (row_id);

comment on table brainops.job_events is
  'Every status change of every job row, append only, partitioned by month of at. Retention drops whole months.';
comment on column brainops.job_events.table_name is 'As in brainops.job_tables.';
comment on column brainops.job_events.attempt is 'The row''s attempts after the change.';
comment on column brainops.job_events.detail is
  'skip_reason or last_error as of the change; null if the row had neither. brainops.forget replaces it by the text erased.';
comment on column brainops.job_events.changed_by is
  'The login that made the change: a worker''s, a tenant''s or an admin''s.';

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
-- Every webhook event about an archived mail looks it up by its id alone.
create index job_archive_row_id on brainops.job_archive (row_id);

comment on table brainops.job_archive is
  'Job rows that finished longer than job_tables.archive_after ago, partitioned by month of finished_at.';
comment on column brainops.job_archive.table_name is 'As in brainops.job_tables.';
comment on column brainops.job_archive.job_row is
  'The whole row as it was: jsonb_populate_record(null::ai_email_queue, job_row) returns it as a row.';

create table brainops.pauses (
  id uuid primary key default gen_random_uuid(),
  table_name text not null references brainops.job_tables (table_name)
    on delete cascade,
  tenant_id uuid references public.tenants (id)
    on delete cascade,
  channel text,
  reason text not null,
  paused_by name not null default session_user,
  paused_at timestamptz not null default now(),
  account text
);

create unique index pauses_once on brainops.pauses (tenant_id, table_name, channel) nulls not distinct;
create index pauses_tenant_id on brainops.pauses (tenant_id);
create index pauses_table_name on brainops.pauses (table_name);

comment on table brainops.pauses is
  'Paused job tables. Their rows wait as pending, with the reason in last_error, until brainops.resume. Written by brainops.pause, and by the engine when a provider refuses every call.';
comment on column brainops.pauses.tenant_id is 'The tenant whose rows wait; null: every tenant''s.';
comment on column brainops.pauses.channel is
  'The pause applies only if this is the table''s channel; null: it always applies.';
comment on column brainops.pauses.paused_by is 'The login that paused the table.';
comment on column brainops.pauses.account is
  'The provider account whose refusal made the engine pause the table, if a row may have caused the refusal; else null.';

-- GCRA, the leaky bucket stored as a single instant ("theoretical arrival time"): constant state, no refill job, and a
-- row that must wait is assigned a slot of its own, so it waits once.
create table brainops.rate_limits (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid references public.tenants (id)
    on delete cascade,
  table_name text not null references brainops.job_tables (table_name)
    on delete cascade,
  per_second numeric not null,
  burst int not null default 1,
  next_slot timestamptz not null default '-infinity',
  constraint rate_limits_per_second_positive check (per_second > 0),
  constraint rate_limits_burst_positive check (burst >= 1)
);

create unique index rate_limits_once on brainops.rate_limits (tenant_id, table_name) nulls not distinct;
create index rate_limits_tenant_id on brainops.rate_limits (tenant_id);
create index rate_limits_table_name on brainops.rate_limits (table_name);

comment on table brainops.rate_limits is
  'At most per_second rows of a job table per second, and burst at once. One row per tenant and table, or per table for all tenants together. Admins insert, update and delete.';
comment on column brainops.rate_limits.tenant_id is
  'Null: all tenants together. A row under both limits goes at the later of its two slots.';
comment on column brainops.rate_limits.per_second is 'Rows per second, above zero; may be a fraction.';
comment on column brainops.rate_limits.burst is 'How many rows may go at once after a quiet period, at least 1.';
comment on column brainops.rate_limits.next_slot is
  'When the bucket will be full again: the theoretical arrival time of the GCRA (ITU-T I.371, ATM Forum TM 4.0). In the past: full now.';

create table brainops.sending_caps (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid references public.tenants (id)
    on delete cascade,
  channel text not null,
  per_hour int,
  per_day int,
  constraint sending_caps_channel_known check (channel in ('email', 'sms')),
  constraint sending_caps_per_hour_positive check (per_hour > 0),
  constraint sending_caps_per_day_positive check (per_day > 0)
);

create unique index sending_caps_once on brainops.sending_caps (tenant_id, channel) nulls not distinct;

comment on table brainops.sending_caps is
  'How many messages each tenant may send through the platform''s accounts. A tenant''s own row counts, else the row without a tenant, else the default: 10,000 mails an hour and 50,000 a day, 1,000 texts an hour and 5,000 a day. A tenant with an own account has no cap. Written by admins.';
comment on column brainops.sending_caps.tenant_id is
  'Null: every tenant without a row of its own; each has the cap for itself.';
comment on column brainops.sending_caps.per_hour is
  'Messages in an hour of the clock, above zero, marketing or not. Null: no cap.';
comment on column brainops.sending_caps.per_day is
  'Messages in 24 hours, the current hour and the 23 before it, above zero. Null: no cap.';

create table brainops.sending_counts (
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  channel text not null,
  shard smallint not null,
  last_hour timestamptz not null default '-infinity',
  counts int[] not null default array_fill(0, array[24]),
  primary key (tenant_id, channel, shard),
  constraint sending_counts_shard_range check (shard between 0 and 15),
  constraint sending_counts_has_24_hours check (cardinality(counts) = 24)
)
with (fillfactor = 50);

comment on table brainops.sending_counts is
  'Messages through the platform''s accounts, for brainops.sending_caps. 16 rows per tenant and channel, each with its part of the cap: a claim locks one that no other claim has locked.';
comment on column brainops.sending_counts.last_hour is 'The hour of the last message, in UTC.';
comment on column brainops.sending_counts.counts is
  'Messages claimed in each of the 24 hours up to last_hour, by the hour of the day in UTC, midnight first. A message that is tried again counts again.';

create table brainops.circuit_breakers (
  account text primary key,
  failures int not null default 0,
  opened_at timestamptz,
  retry_at timestamptz,
  current_delay interval,
  probe_expires_at timestamptz,
  last_error text,
  threshold int not null default 5,
  base_delay interval not null default '15 seconds',
  max_delay interval not null default '10 minutes',
  opened_by uuid,
  agreed_delay interval,
  probe_tenant_id uuid,
  probed_at timestamptz,
  failure_window interval not null default '60 seconds',
  constraint circuit_breakers_open_has_retry check ((opened_at is null) = (retry_at is null)),
  constraint circuit_breakers_threshold_positive check (threshold >= 1),
  constraint circuit_breakers_window_bounded check (failure_window between '20 seconds' and '1 hour')
);

comment on table brainops.circuit_breakers is
  'One row per provider account that has ever failed or asked to wait. The view brainops.breakers shows their state.';
comment on column brainops.circuit_breakers.account is
  'The provider account: sendgrid for the platform''s, sendgrid:<tenant id> for a tenant''s own.';
comment on column brainops.circuit_breakers.failures is
  'Failures in a row; a success sets it to 0. For the platform''s account: those of the tenants whose last call failed within failure_window, each since its last success.';
comment on column brainops.circuit_breakers.opened_at is 'When the breaker opened; null while it is closed.';
comment on column brainops.circuit_breakers.retry_at is
  'From then on a single row, the probe, may try; null while the breaker is closed.';
comment on column brainops.circuit_breakers.current_delay is
  'How long the breaker waits before its next probe; doubled when the probe fails, up to max_delay.';
comment on column brainops.circuit_breakers.probe_expires_at is
  'The lease of the probe: until then no other row may try. If the worker dies, another row may probe after it. Null: no probe is in flight.';
comment on column brainops.circuit_breakers.threshold is
  'The breaker opens after this many failures in a row, at least 1.';
comment on column brainops.circuit_breakers.base_delay is 'The delay before the first probe.';
comment on column brainops.circuit_breakers.max_delay is
  'The longest delay before a probe, also if the provider asks for a longer one (429).';
comment on column brainops.circuit_breakers.opened_by is
  'The only tenant whose failures keep the platform''s account open; every other tenant may try at once. Null: several tenants'', the provider asked to wait, a tenant''s own account, or closed.';
comment on column brainops.circuit_breakers.agreed_delay is
  'The delay when two tenants'' failures last agreed, doubled each time. The doublings that one tenant caused alone are in current_delay only.';
comment on column brainops.circuit_breakers.probe_tenant_id is 'The tenant whose row was the last probe.';
comment on column brainops.circuit_breakers.probed_at is 'When the last probe was claimed.';
comment on column brainops.circuit_breakers.failure_window is
  'For the platform''s account: how long a result of one tenant counts as evidence beside the results of another; 20 seconds to 1 hour.';

-- No foreign key to tenants: its check would wait for whoever has locked the tenant's row, with the breaker locked.
create table brainops.breaker_tenants (
  tenant_id uuid not null,
  account text not null,
  failures int not null default 0,
  failing_since timestamptz,
  last_failure_at timestamptz,
  last_success_at timestamptz,
  primary key (tenant_id, account),
  constraint breaker_tenants_failing_since check ((failures > 0) = (failing_since is not null))
);

create index breaker_tenants_account on brainops.breaker_tenants (account);
create index breaker_tenants_failing on brainops.breaker_tenants (account) where failing_since is not null;

comment on table brainops.breaker_tenants is
  'The last results of each tenant''s calls through the platform''s provider accounts, from which a circuit breaker decides whether the provider fails or one tenant. Written at each failure; at a success only if the time stored is older than a quarter of failure_window, or if the account has failures. Rows are deleted after a day without a call.';
comment on column brainops.breaker_tenants.failures is 'Failures in a row of this tenant.';
comment on column brainops.breaker_tenants.failing_since is
  'The first of these failures; null if the last call succeeded.';
comment on column brainops.breaker_tenants.last_success_at is
  'The last success; up to a quarter of failure_window older than it was, if the account had no failures then.';

create table brainops.job_claims (
  table_name text primary key references brainops.job_tables (table_name)
    on delete cascade,
  claimed_at timestamptz not null
);

comment on table brainops.job_claims is
  'When rows of each job table were claimed last. Workers write it every two seconds, not with each claim. brainops_internal.stalls reads it.';
comment on column brainops.job_claims.claimed_at is
  'When a claim last reached a row: it went, or got the reason why it waits.';

create table brainops.worker_processes (
  id uuid primary key,
  -- Random: a tenant could lock a predictable number before the worker takes it (brainops_internal.register_worker).
  number int not null unique default floor(random() * 2147483647)::int,
  login name not null default session_user,
  host text not null,
  pid int not null,
  tasks text[] not null default '{}',
  pool_ids text[] not null default '{}',
  backend_pid int,
  suspect_since timestamptz,
  started_at timestamptz not null default now(),
  last_seen_at timestamptz not null default now()
);

comment on table brainops.worker_processes is
  'Worker processes, as registered by themselves; the view brainops.workers shows which of them are alive.';
comment on column brainops.worker_processes.number is
  'Second half of the key of the worker''s advisory lock: another one each time that the worker registers.';
comment on column brainops.worker_processes.tasks is 'The graphile-worker tasks that the worker can run.';
comment on column brainops.worker_processes.pool_ids is
  'The graphile-worker pools that the process has opened, and under whose ids it locks jobs.';
comment on column brainops.worker_processes.backend_pid is
  'Server process of the connection that holds the lock. A lock held by any other does not count, so no tenant can keep a dead worker alive.';
comment on column brainops.worker_processes.suspect_since is
  'When its lock was first found released; null while it holds the lock.';

-- Only for the built-in Postgres, where all clients share one session, so an advisory lock does not show which
-- connection lives. Its server calls brainops_internal.embedded_connection_closed when a connection ends.
create unlogged table brainops.embedded_connections (
  connection_id text not null,
  worker_number int not null,
  primary key (connection_id, worker_number)
);

comment on table brainops.embedded_connections is
  'Which connection belongs to which worker, on the built-in Postgres. Empty on other servers.';
