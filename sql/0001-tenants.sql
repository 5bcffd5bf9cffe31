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

create function brainops.is_time_zone(p_name text)
returns boolean
language plpgsql
-- As immutable as the time zone database itself; a check constraint needs it so.
immutable
parallel safe
set search_path = ''
as $$
begin
  perform pg_catalog.timezone(p_name, '2000-01-01T00:00Z'::timestamptz);
  return p_name <> '';
exception
  when others then return false;
end;
$$;

comment on function brainops.is_time_zone(text) is 'Whether Postgres knows the time zone, e.g. America/Denver.';

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
  constraint tenants_time_zone_known check (brainops.is_time_zone(time_zone)),
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
comment on column public.tenants.settings is 'Options of the tenant: mail_from, postal_address.';
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

-- Without a search_path of its own (names are qualified instead), so that it is inlined: it is part
-- of every policy.
create function brainops.uuid_or_null(p_text text)
returns uuid
language sql
immutable
parallel safe
as $$
  select
    case
      when p_text operator(pg_catalog.~*) '^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$' then p_text::pg_catalog.uuid
    end;
$$;

comment on function brainops.uuid_or_null(text) is 'The uuid that the text spells, or null: never an error.';

-- The claim tenant_id of a verified JWT as PostgREST and Supabase hand it over; null for none.
create function brainops.jwt_tenant_id()
returns uuid
language plpgsql
stable
parallel safe
set search_path = ''
as $$
begin
  return brainops.uuid_or_null(
    nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'tenant_id'
  );
exception
  -- Not JSON, an escape that text cannot hold, or nested too deep.
  when data_exception or program_limit_exceeded then return null;
end;
$$;

comment on function brainops.jwt_tenant_id is
  'The claim tenant_id in request.jwt.claims; null where there is none or it is no uuid.';

-- A service that has named a tenant, even by a word that is no tenant, is never anybody else.
-- Inlined like the one above.
create function brainops.names_no_tenant()
returns boolean
language sql
stable
parallel safe
as $$
  select
    coalesce(pg_catalog.current_setting('app.tenant_id', true), '') operator(pg_catalog.=) ''
    and coalesce(pg_catalog.current_setting('request.jwt.claims', true), '') operator(pg_catalog.=) '';
$$;

comment on function brainops.names_no_tenant is
  'Whether neither app.tenant_id nor request.jwt.claims says anything at all.';

create function brainops.current_tenant_id()
returns uuid
language plpgsql
stable
parallel safe
-- Reads tenant_logins, which no tenant may read.
security definer
set search_path = ''
as $$
declare
  v_tenant_id uuid;
begin
  select tenant_id into v_tenant_id from brainops.tenant_logins where login = session_user;
  if found then
    return v_tenant_id;
  end if;
  if not pg_catalog.pg_has_role(session_user, 'brainops_service', 'member') then
    return null;
  end if;
  v_tenant_id := brainops.uuid_or_null(current_setting('app.tenant_id', true));
  if v_tenant_id is not null then
    return v_tenant_id;
  end if;
  return coalesce(
    brainops.jwt_tenant_id(),
    -- A service that names nobody sees the row it has just inserted: RETURNING needs that.
    case when brainops.names_no_tenant() then brainops.uuid_or_null(current_setting('brainops.inserted_tenant', true)) end
  );
end;
$$;

comment on function brainops.current_tenant_id is
  'The tenant that is asking, or null for nobody. In policies and queries always as (select brainops.current_tenant_id()): the bare call runs once for each row.';

-- For the policies of brainops_service: such a login may name the tenant by a setting, so it may
-- as well name it in each row. Not for brainops_worker: a worker without a tenant is a mistake.
create function brainops.may_name_tenant()
returns boolean
language sql
stable
parallel safe
security definer
set search_path = ''
as $$
  select
    brainops.names_no_tenant()
    and pg_catalog.pg_has_role(session_user, 'brainops_service', 'member')
    and not exists (select from brainops.tenant_logins where login = session_user);
$$;

comment on function brainops.may_name_tenant is
  'Whether the caller may say in each row whose it is: a service login that has named no tenant by a setting.';

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array['brainops.current_tenant_id()', 'brainops.may_name_tenant()']::regprocedure[]
  loop
    execute format('alter function %s owner to brainops_system', v_function);
    execute format('revoke execute on function %s from public', v_function);
    execute format('grant execute on function %s to brainops_tenant, brainops_worker, brainops_service, brainops_admin', v_function);
  end loop;
end;
$$;

-- Row level security of the two tables. Tenants may read their own row of tenants; logins are the
-- business of admins alone.
alter table public.tenants enable row level security;
alter table public.tenants force row level security;

create policy own_tenant on public.tenants
for select
to brainops_tenant, brainops_worker, brainops_service
using (id = (select brainops.current_tenant_id()));
create policy every_row on public.tenants
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant usage
on schema public
to brainops_tenant, brainops_worker, brainops_service, brainops_admin, brainops_system;
grant select on public.tenants to brainops_tenant, brainops_worker, brainops_service;
grant select, insert, update, delete on public.tenants to brainops_admin, brainops_system;

alter table brainops.tenant_logins enable row level security;
alter table brainops.tenant_logins force row level security;

create policy every_row on brainops.tenant_logins
for all
to brainops_admin, brainops_system
using (true)
with check (true);

grant select, insert, update, delete on brainops.tenant_logins to brainops_admin, brainops_system;
