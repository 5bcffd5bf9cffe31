-- Roles and schemas. `brainops migrate` runs this file before everything else, every time: roles belong to the cluster
-- and not to the database, so a restored dump lacks them. Safe to run again, and by several programs that start at the
-- same time (migrate takes a lock).
--
-- Roles:
--   brainops_tenant   a tenant's own SQL clients
--   brainops_worker   what workers and the HTTP server become inside a tenant's transaction
--   brainops_service  trusted pools that may name the tenant
--   brainops_admin    DBAs: every tenant
--   brainops_system   owns the security definer functions and graphile_worker
-- None of them can log in and none has BYPASSRLS; grant them to logins.
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
        -- Another database of this cluster is being set up at the same moment.
        when duplicate_object or unique_violation then null;
      end;
    end if;
    -- The migrator gives objects to brainops_system, and becomes it to install graphile_worker. Before Postgres 16,
    -- membership is enough for that; from 16 on, the creator of a role may grant it but not become it.
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
  'BrainOps: the functions and views that people use, and the engine''s own tables. Start with the views brainops.jobs and brainops.queue_health.';

create schema if not exists brainops_internal;

comment on schema brainops_internal is
  'Functions behind the triggers, policies and workers of BrainOps, and behind the functions of schema brainops. Not for direct use: they may change with every release.';

-- Not granted to tenants and services: triggers and the functions of schema brainops reach these functions with rights
-- of their own.
grant usage on schema brainops_internal to brainops_worker, brainops_admin;

grant usage, create on schema brainops_internal to brainops_system;

grant usage on schema brainops to brainops_tenant, brainops_worker, brainops_service, brainops_admin;

grant usage, create on schema brainops to brainops_system;

-- Tenants who run SQL must not be able to shadow names or fill the disk with temporary tables.
do $$
begin
  execute format('revoke temporary on database %I from public', current_database());
exception
  when insufficient_privilege then
    raise warning 'cannot revoke TEMPORARY on database % from public: ask the owner of the database to do it', current_database();
end;
$$;

revoke create on schema public from public;
