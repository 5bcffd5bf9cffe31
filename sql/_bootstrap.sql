-- Run by `brainops migrate` before everything else, every time: the roles, which belong to the
-- cluster and not to the database (a dump does not carry them), and the schema that holds our own
-- tables. Safe to run again, and by four starters at once (they take turns under one lock).
--
-- Who is who:
--   brainops_tenant   a tenant's own SQL clients
--   brainops_worker   what workers and the HTTP server become inside a tenant's transaction
--   brainops_service  trusted pools that may name the tenant
--   brainops_admin    DBAs: every tenant
--   brainops_system   owner of the definer functions and of graphile_worker
-- None can log in and none has BYPASSRLS; logins are granted into them.
do $$
declare
  v_role text;
begin
  foreach v_role in array array[
    'brainops_tenant', 'brainops_worker', 'brainops_service', 'brainops_admin', 'brainops_system'
  ]
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = v_role) then
      begin
        execute format('create role %I nologin', v_role);
      exception
        -- another database of this cluster is being set up at the same moment
        when duplicate_object or unique_violation then null;
      end;
    end if;
    -- The migrator hands objects to brainops_system and becomes it to install graphile_worker.
    -- (Before 16 membership is enough; from 16 on a role's creator may grant it but not become it.)
    if not pg_catalog.pg_has_role(
      current_user, v_role, case when current_setting('server_version_num')::int < 160000 then 'member' else 'set' end
    ) then
      execute format('grant %I to %I', v_role, current_user);
    end if;
  end loop;
end;
$$;

create schema if not exists brainops;

comment on schema brainops is
  'BrainOps: the SQL interface for admins, and the engine''s own tables. Start at brainops.jobs and brainops.queue_health.';

create schema if not exists brainops_internal;

comment on schema brainops_internal is
  'Functions of BrainOps that nobody calls by hand: behind triggers, policies, workers and the functions of schema brainops.';

-- Not to tenants and services: what triggers and the functions of schema brainops need of it, they have themselves.
grant usage on schema brainops_internal to brainops_worker, brainops_admin;

grant usage, create on schema brainops_internal to brainops_system;

grant usage on schema brainops to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

grant usage, create on schema brainops to brainops_system;

-- Tenants with SQL must not be able to shadow names or fill the disk with temporary tables.
do $$
begin
  execute format('revoke temporary on database %I from public', current_database());
exception
  when insufficient_privilege then
    raise warning 'cannot revoke TEMPORARY on database % from public; ask its owner to', current_database();
end;
$$;

revoke create on schema public from public;
