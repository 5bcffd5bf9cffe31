-- The job-row engine, first half: a row in a job table is the truth, its graphile-worker job is
-- its alarm clock. Triggers keep the second in step with the first, whoever writes the row.
--
--                    ┌──────────── retry at T, deferred until T ───────────┐
--                    ▼                                                     │
--   insert ──▶ pending ──claim──▶ processing ──settle──▶ completed         │
--                │ ▲                   ├──────────────▶ failed             │
--                │ │                   ├──────────────▶ skipped            │
--                │ │                   ├──────────────▶ cancelled (asked)  │
--                │ │                   ├──────────────▶ unconfirmed ──▶ completed | pending
--                │ │                   └───────────────────────────────────┘
--                │ └── update … set status = 'pending': again, from any state but processing
--                └──── cancelled | skipped (the gate says never)
--   awaiting_approval ──approved──▶ pending
--
-- Lock order everywhere: job row, then graphile_worker's job. The triggers below run after the
-- row is locked; nothing locks a graphile job first and a row second.
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
  'The columns that every job table has. brainops.define_job_table, the view brainops.jobs and workers go by this list.';
comment on column brainops.job_columns.position is 'Order in brainops.jobs, and of the columns where they are added.';
comment on column brainops.job_columns.definition is 'Type, default and constraints, as in create table.';
comment on column brainops.job_columns.client_inserts is 'Whether tenants and services may give a value on insert.';
comment on column brainops.job_columns.client_updates is 'Whether tenants and services may update it.';
comment on column brainops.job_columns.initial is
  'SQL of the value that a new row must have; null if any value is accepted.';
comment on column brainops.job_columns.is_listed is 'Whether brainops.jobs shows it.';
comment on column brainops.job_columns.is_loaded is 'Whether a worker loads it with the row for a handler.';

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
  (18, 'rate_slot', 'timestamptz', false, false, 'null', false, false);

-- The column half of brainops.define_job_table. In a numbered file, because indexes and generated columns of job
-- tables need the columns, and all other functions are applied later.
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
end;
$$;

comment on function brainops_internal.add_job_columns(regclass, int) is
  'Gives a table the engine''s columns, checks and indexes. For the table''s owner; called once for each table.';

revoke execute on function brainops_internal.add_job_columns(regclass, int) from public;

-- What a gate says of a row that may not go now.
create type brainops.verdict as (id uuid, outcome text, until timestamptz, reason text);

comment on type brainops.verdict is
  'A gate''s word on one row: defer (until), hold (until somebody resumes), skip (never, reason says why) or fail. A row without one goes.';

create type brainops.settlement as (id uuid, lease uuid, outcome text, run_at timestamptz, reason text, result jsonb);

comment on type brainops.settlement is
  'How an effect ended. outcome: completed, retry (run_at null: by brainops_internal.retry_delay), defer (the provider said later; costs no attempt), hold (as it was before the claim; what stands in the way is written beside it), fail, skip or unconfirmed. result fills the table''s result_columns.';

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
  -- A claim may name up to 250 rows itself.
  constraint job_tables_bulk_max_range check (bulk_max between 250 and 5000)
);

comment on table brainops.job_tables is
  'The job tables, written by brainops.define_job_table. time_limit, max_deferrals and archive_after may be edited.';
comment on column brainops.job_tables.table_name is
  'What people call it, e.g. ai_email_queue; with its schema where that is not public.';
comment on column brainops.job_tables.relation is 'Schema and name, quoted where need be, e.g. public.ai_email_queue.';
comment on column brainops.job_tables.task_identifier is 'The graphile-worker task: the name of a file in tasks/.';
comment on column brainops.job_tables.channel is
  'What brainops.pause() calls it: email, sms, …; null where the table has none.';
comment on column brainops.job_tables.effect_is_idempotent is
  'Whether the effect may be tried again after a crash. If not, the row becomes unconfirmed.';
comment on column brainops.job_tables.gate is
  'Function (uuid[]) returning setof brainops.verdict, asked while the rows are locked; null for none.';
comment on column brainops.job_tables.provider is
  'The provider whose accounts the effect goes through, e.g. sendgrid; null if it calls none. Each account has a circuit breaker.';
comment on column brainops.job_tables.result_columns is
  'Columns beyond the engine''s own that a handler may fill when it settles.';
comment on column brainops.job_tables.time_limit is
  'How long an effect may take; past it the handler''s signal is aborted.';
comment on column brainops.job_tables.max_deferrals is 'How often a provider may say "later" before the row fails.';
comment on column brainops.job_tables.archive_after is 'Rows done for this long move to brainops.job_archive.';
comment on column brainops.job_tables.bulk_column is
  'Column (uuid) that rows have in common which may go out in one call; null where each goes alone.';
comment on column brainops.job_tables.bulk_max is 'How many rows of a batch a claim takes at most.';

-- One row for each change of a status, never changed afterwards. The birth of a row is its own
-- created_at: an event beside each insert would say nothing more, and cost as many rows again.
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
  'Every status change of every job row, append only, by month. Retention drops whole months.';
comment on column brainops.job_events.detail is
  'last_error or skip_reason as of the change; null where there was none.';
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
-- An archived mail is asked for by its id alone, by every event about it.
create index job_archive_row_id on brainops.job_archive (row_id);

comment on table brainops.job_archive is
  'Job rows done for longer than job_tables.archive_after, by month of finished_at.';
comment on column brainops.job_archive.job_row is
  'The whole row as it was: jsonb_populate_record(null::ai_email_queue, job_row) gives it back.';

create table brainops.pauses (
  id uuid primary key default gen_random_uuid(),
  table_name text not null references brainops.job_tables (table_name)
    on delete cascade,
  tenant_id uuid references public.tenants (id)
    on delete cascade,
  channel text,
  reason text not null,
  paused_by name not null default session_user,
  paused_at timestamptz not null default now()
);

create unique index pauses_once on brainops.pauses (tenant_id, table_name, channel) nulls not distinct;
create index pauses_tenant_id on brainops.pauses (tenant_id);
create index pauses_table_name on brainops.pauses (table_name);

comment on table brainops.pauses is
  'Job tables at a standstill. Rows wait as pending with the reason in last_error; brainops.resume() lets them go on.';
comment on column brainops.pauses.tenant_id is 'Null: every tenant.';
comment on column brainops.pauses.channel is 'Null: whatever the table''s channel.';

-- GCRA, the leaky bucket as a single instant ("theoretical arrival time"): constant state, no
-- refill job, and a row that must wait is given its own slot, so it waits once.
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
  'At most per_second rows a second, burst at once: of one tenant, or (tenant_id null) of all together. Admins insert, update and delete.';
comment on column brainops.rate_limits.next_slot is
  'When the bucket would be full again: the theoretical arrival time of the GCRA (ITU-T I.371, ATM Forum TM 4.0).';

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
  constraint circuit_breakers_open_has_retry check ((opened_at is null) = (retry_at is null)),
  constraint circuit_breakers_threshold_positive check (threshold >= 1)
);

comment on table brainops.circuit_breakers is
  'One row for each provider account that has ever failed. Read it through brainops.breakers.';
comment on column brainops.circuit_breakers.failures is 'Failures in a row; a success sets it to 0.';
comment on column brainops.circuit_breakers.retry_at is 'While open: from then on a single row may try.';
comment on column brainops.circuit_breakers.current_delay is
  'How long it waited before its last try; twice as long after the next failure, up to max_delay.';
comment on column brainops.circuit_breakers.probe_expires_at is
  'While a row tries: until when no other may. A worker that dies while it probes loses the lease then.';

create table brainops.worker_processes (
  id uuid primary key,
  -- By chance: a number that can be foreseen could be locked by a tenant before the worker starts.
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
  'Worker processes by their own word; brainops.workers says which of them are alive.';
comment on column brainops.worker_processes.number is 'Second half of the advisory lock''s key.';
comment on column brainops.worker_processes.pool_ids is
  'graphile-worker pools the process has opened: what it may hold jobs by.';
comment on column brainops.worker_processes.backend_pid is
  'Server process of the connection that holds the lock. A lock held by any other does not count, so no tenant can keep a dead worker alive.';

-- Only for the built-in Postgres, where every client shares one session and advisory locks tell
-- nothing: its server calls embedded_connection_closed when a connection ends.
create unlogged table brainops.embedded_connections (
  connection_id text not null,
  worker_number int not null,
  primary key (connection_id, worker_number)
);

comment on table brainops.embedded_connections is
  'Built-in Postgres only: which connection stands for which worker. Empty elsewhere.';
