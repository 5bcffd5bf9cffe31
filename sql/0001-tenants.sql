-- Tenants, the logins bound to them, and the one function that answers "who is asking?".
--
-- A setting is no identity: whoever can run SQL can run `set app.tenant_id = …`. So a login that
-- is bound to a tenant is that tenant, whatever it sets; only members of brainops_service are
-- believed when they name the tenant; anyone else is nobody, and nobody sees nothing.
set local lock_timeout = '2s';

-- The engine's idea of now. Tests replace this function in their own databases to move time;
-- in production it is inlined to now() and there is nothing to forge.
create function brainops.now()
returns timestamptz
language sql
stable
parallel safe
as $$
  select pg_catalog.now();
$$;

comment on function brainops.now is 'The engine''s clock: now(). Only test databases replace it.';

revoke execute on function brainops.now() from public;
grant execute
on function brainops.now()
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;

create function brainops_internal.is_time_zone(p_name text)
returns boolean
language plpgsql
-- As immutable as the time zone database itself; a check constraint needs it so.
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
  'Whether it is the name of a time zone, e.g. America/Denver; an offset (+05:00) or an abbreviation (PST) is none.';

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
  constraint tenants_settings_is_object check (jsonb_typeof(settings) = 'object')
);

-- At most one tenant takes the rows of services that name none.
create unique index tenants_one_default on public.tenants (is_default) where is_default;

comment on table public.tenants is
  'A customer of this installation. Every row of every other table belongs to exactly one.';
comment on column public.tenants.slug is 'Short name for people and commands: a-z, 0-9 and -, at most 63 characters.';
comment on column public.tenants.time_zone is
  'IANA name, e.g. America/Denver. What "today" and "quiet hours" mean where a lead has no zone of its own.';
comment on column public.tenants.status is
  'active, or suspended: rows wait as pending until the tenant is active again.';
comment on column public.tenants.settings is
  'Options: mail_from, postal_address (in every marketing mail), notify_email (where the tenant itself is told things), country (how numbers without + are read).';
comment on column public.tenants.is_default is
  'At most one tenant: rows that a service inserts without saying whose they are go to it.';

create table brainops.tenant_logins (
  login name primary key,
  tenant_id uuid not null references public.tenants (id)
    on delete cascade,
  created_at timestamptz not null default now()
);

create index tenant_logins_tenant_id on brainops.tenant_logins (tenant_id);

comment on table brainops.tenant_logins is
  'Database logins bound to a tenant. Written by brainops.create_login; drop the role and its row together.';

create table brainops.settings (
  name text primary key,
  value interval not null,
  description text not null,
  constraint settings_value_positive check (value > '0')
);

comment on table brainops.settings is 'Durations that admins may edit; description says what each does.';

create table brainops.installation (
  only_row boolean primary key default true,
  public_url text,
  announced_at timestamptz not null default brainops.now(),
  constraint installation_one_row check (only_row),
  constraint installation_public_url_is_url check (public_url ~ '^https?://')
);

comment on table brainops.installation is
  'What web servers and workers say of themselves when they start, so that SQL can refuse what could not work.';
comment on column brainops.installation.public_url is 'PUBLIC_URL of the last process that had one; null: none had.';
