-- Tenants, their logins and the sessions that were ended, and what belongs to the whole installation: settings and
-- PUBLIC_URL.
--
-- A setting does not prove who is asking: whoever can run SQL can run `set app.tenant_id = …`. So a login that is
-- bound to a tenant is always that tenant, whatever it sets. Only members of brainops_service are trusted when they
-- name a tenant. Any other login has no tenant, and sees no rows. The rule is brainops.current_tenant_id
-- (functions/tenants/identity.sql).
--
-- Compatibility: rolling; creates tables that no older program reads.
set local lock_timeout = '2s';

-- The engine's clock. Tests replace this function in their own databases to move time. In production it is inlined
-- to now(), and no client can change it.
create function brainops.now()
returns timestamptz
language sql
stable
parallel safe
as $$
  select pg_catalog.now();
$$;

comment on function brainops.now is
  'The engine''s clock: the start of the transaction, as now() of Postgres. Only test databases replace it.';

revoke execute on function brainops.now() from public;
grant execute
on function brainops.now()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create function brainops_internal.is_time_zone(p_name text)
returns boolean
language plpgsql
-- Declared immutable because a check constraint uses it. The answer changes only with the server's time zone database.
immutable
parallel safe
set search_path = ''
as $$
begin
  if p_name is null then
    return null;
  end if;
  if p_name ~ '/' then
    if p_name !~* '^(etc/gmt[+-]?[0-9]{1,2}|[a-z_]+(/[a-z_-]+)+)$' then
      return false;
    end if;
  elsif p_name !~* '^(utc|gmt|est5edt|cst6cdt|mst7mdt|pst8pdt)$' then
    if p_name !~* '^[a-z-]+$' or exists (select from pg_catalog.pg_timezone_abbrevs as a where a.abbrev = upper(p_name)) then
      return false;
    end if;
  end if;
  perform pg_catalog.timezone(p_name, '2000-01-01T00:00Z'::timestamptz);
  return true;
exception
  when others then return false;
end;
$$;

comment on function brainops_internal.is_time_zone(text) is
  'True for the name of a time zone, such as America/Denver. False for anything else, offsets (+05:00) and abbreviations (PST) included. Null for null.';

revoke execute on function brainops_internal.is_time_zone(text) from public;
grant execute
on function brainops_internal.is_time_zone(text)
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create table public.tenants (
  id uuid primary key default gen_random_uuid(),
  slug text not null unique,
  name text not null,
  time_zone text not null default 'UTC',
  status text not null default 'active',
  settings jsonb not null default '{}',
  is_default boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint tenants_slug_is_short_name check (slug ~ '^[a-z0-9][a-z0-9-]{0,62}$'),
  constraint tenants_name_length check (length(name) between 1 and 200),
  constraint tenants_time_zone_known check (brainops_internal.is_time_zone(time_zone)),
  constraint tenants_status_known check (status in ('active', 'suspended')),
  constraint tenants_settings_is_object check (jsonb_typeof(settings) = 'object'),
  constraint tenants_settings_at_most_65536_bytes check (pg_column_size(settings) <= 65536)
);

-- At most one tenant gets the rows of services that do not name a tenant.
create unique index tenants_one_default on public.tenants (is_default) where is_default;

comment on table public.tenants is
  'The customers of this installation; every row with a tenant_id belongs to one of them. Created by brainops.create_tenant.';
comment on column public.tenants.slug is
  'Short name for people and commands: a-z, 0-9 and -, at most 63 characters, unique.';
comment on column public.tenants.time_zone is
  'IANA name, such as America/Denver. Decides what "today" and "quiet hours" mean for leads without a time zone of their own.';
comment on column public.tenants.status is
  'active, or suspended: due rows wait as pending until the tenant is active again.';
comment on column public.tenants.settings is
  'Options, each may be missing: mail_from; postal_address (required in marketing mail); notify_email (where notifications to the tenant go); country (ISO 3166, US if missing: how phone numbers without + are read); sms_help_reply; payment_link_days; payment_success_url.';
comment on column public.tenants.is_default is
  'True for at most one tenant: it gets the rows that a service inserts without a tenant or a reference to one.';

create table brainops.tenant_logins (
  login name primary key,
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  created_at timestamptz not null default now()
);

create index tenant_logins_tenant_id on brainops.tenant_logins (tenant_id);

comment on table brainops.tenant_logins is
  'Database logins bound to a tenant, one row per login. Written by brainops.create_login. To remove a login, drop the role and delete its row.';

create table brainops.session_events (
  id uuid primary key default gen_random_uuid(),
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  at timestamptz not null default now(),
  login name not null,
  pid int not null,
  backend_start timestamptz not null,
  reason text not null,
  lasted interval not null,
  blocked text[] not null default '{}',
  constraint session_events_reason_known check (reason in ('blocked others', 'long transaction')),
  constraint session_events_once unique (tenant_id, pid, backend_start)
);

create index session_events_at on brainops.session_events (at);

comment on table brainops.session_events is
  'Sessions of tenants'' logins that the session guard (brainops_internal.guard_sessions) ended, and why. At most 1,000 a day and tenant; deleted after settings.drop_events_after.';
comment on column brainops.session_events.lasted is
  'How long the session had blocked others, or how old its transaction was.';
comment on column brainops.session_events.blocked is
  'The sessions that waited for it, at most ten: process id, login, and the lock that each waited for.';

-- Which sessions of tenants block others now, and for how long in all: a session that waits gives up at its lock_timeout
-- and comes back, so no single wait need be long. Unlogged, because its rows mean nothing after a restart.
create unlogged table brainops.blocking_sessions (
  pid int not null,
  backend_start timestamptz not null,
  xact_start timestamptz,
  blocked_for interval not null,
  seen_at timestamptz not null,
  constraint blocking_sessions_pkey primary key (pid, backend_start)
);

comment on table brainops.blocking_sessions is
  'Sessions of tenants'' logins that blocked others within the last minute, for brainops_internal.guard_sessions.';
comment on column brainops.blocking_sessions.xact_start is
  'The transaction that blocks; null: outside a transaction, as with a session''s advisory lock. Another one starts from zero.';
comment on column brainops.blocking_sessions.blocked_for is 'How long others have waited for it so far, in all.';
comment on column brainops.blocking_sessions.seen_at is 'When a worker last looked and found it blocking.';

create table brainops.settings (
  name text primary key,
  value interval not null,
  description text not null,
  constraint settings_value_positive check (value > '0')
);

comment on table brainops.settings is
  'Settings of the whole installation: retention periods, and limits of tenants'' sessions. Admins may update value; description says what each one does.';
comment on column brainops.settings.value is 'Above zero, such as 13 months or 5 seconds.';

create table brainops.installation (
  only_row boolean primary key default true,
  public_url text,
  announced_at timestamptz not null default brainops.now(),
  constraint installation_one_row check (only_row),
  constraint installation_public_url_is_url check (public_url ~ '^https?://')
);

comment on table brainops.installation is
  'What servers and workers announce when they start, at most one row. Lets SQL refuse a launch that could not work without it.';
comment on column brainops.installation.public_url is
  'PUBLIC_URL as announced last (brainops.announce_public_url), an http or https URL; null if none was announced.';
comment on column brainops.installation.announced_at is 'When public_url last changed.';

-- Rows to lock: what an advisory lock would do, except that every login can take any advisory lock, and hold it for as
-- long as it stays connected. Clients have no rights on this table. A row stands for a bucket of keys, so the table does
-- not grow with people, numbers and forms, and no row is shared by two tenants, so a transaction that works for one
-- tenant never waits for another's. Unlogged: a lock on a row writes no WAL then, and a row that a crash has removed is
-- created again. brainops_internal.lock_keys is the only function that reads or writes it.
create unlogged table brainops.tenant_locks (
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  purpose text not null,
  bucket smallint not null,
  primary key (tenant_id, purpose, bucket),
  constraint tenant_locks_purpose_known check (purpose in ('person', 'import', 'form', 'sms_number', 'sms_route')),
  constraint tenant_locks_bucket_range check (bucket between 0 and 63)
);

comment on table brainops.tenant_locks is
  'Rows that transactions lock to do one thing at a time for a tenant: at most 64 for each purpose. They hold no data, and clients cannot lock them.';
comment on column brainops.tenant_locks.purpose is
  'What is done one at a time: counting a person''s messages (person), import_leads, a form''s submissions, events about a phone number (sms_number), counting failures of a route (sms_route).';
comment on column brainops.tenant_locks.bucket is 'Hash of the key, 0 to 63.';
