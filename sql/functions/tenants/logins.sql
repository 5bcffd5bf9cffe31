-- Tenants' logins. Start at brainops.create_login.

-- Runs with the caller's rights: creating a login needs CREATEROLE, which no role of BrainOps has.
create or replace function brainops.create_login(p_tenant_slug text, p_role_name text, p_password text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  v_tenant_id uuid := brainops_internal.tenant_id_of(p_tenant_slug);
begin
  if coalesce(length(p_password), 0) < 12 then
    raise exception 'password: has fewer than 12 characters'
      using errcode = 'OP005', hint = 'Give 12 characters or more, or a SCRAM-SHA-256 verifier; `brainops tenant login` computes one, so that the password appears in no log.';
  end if;
  -- Postgres would cut off a longer name.
  if coalesce(octet_length(p_role_name), 0) not between 1 and 63 then
    raise exception 'login: % is not a name of 1 to 63 bytes', quote_nullable(left(p_role_name, 100))
      using errcode = 'invalid_name', hint = 'Give a name such as acme_app.';
  end if;
  if exists (select from pg_catalog.pg_roles where rolname = p_role_name) then
    raise exception 'login: role "%" already exists', p_role_name
      using errcode = 'duplicate_object', hint = 'Choose another name.';
  end if;
  begin
    execute format('create role %I login password %L connection limit 20 in role brainops_tenant', p_role_name, p_password);
  exception
    -- Postgres adds the failed statement to the error, and with it the password.
    when others then
      raise exception 'login: cannot create "%": %', p_role_name, sqlerrm
        using errcode = sqlstate, hint = 'Needs CREATEROLE and, from Postgres 16 on, the admin option on brainops_tenant; names that begin with pg_ are reserved.';
  end;
  execute format('alter role %I set statement_timeout = %L', p_role_name, '60s');
  execute format('alter role %I set idle_in_transaction_session_timeout = %L', p_role_name, '60s');
  insert into brainops.tenant_logins (login, tenant_id) values (p_role_name, v_tenant_id);
  perform brainops_internal.join_logins();
end;
$$;

comment on function brainops.create_login(text, text, text) is
  'Creates the database login p_role_name, bound to the tenant: it reaches that tenant''s rows only, whatever it sets. At most 20 connections; statements end after 60 s. p_tenant_slug: slug or id. p_role_name: 1 to 63 bytes. p_password: at least 12 characters, or a SCRAM-SHA-256 verifier; it is never in an error. Needs CREATEROLE. 42602, 42710: not a name, or the role exists. OP005: password too short. OP007: unknown tenant.';

revoke execute on function brainops.create_login(text, text, text) from public;
grant execute on function brainops.create_login(text, text, text) to brainops_admin, brainops_system;

-- brainops_system gets nothing but the right to end these logins' sessions (guard_sessions) and to see their times:
-- tenants own nothing, and what their role may do, brainops_system may do already.
create or replace function brainops_internal.join_logins()
returns setof name
language plpgsql
set search_path = ''
as $$
declare
  v_login name;
begin
  for v_login in
    select l.login from brainops.tenant_logins as l
    inner join pg_catalog.pg_roles as r on r.rolname = l.login
    where not pg_catalog.pg_has_role('brainops_system', r.oid, 'usage')
      -- Would be a loop, or make every function of the engine one of a superuser.
      and not r.rolsuper
      and not pg_catalog.pg_has_role(r.oid, 'brainops_system', 'member')
  loop
    begin
      execute format('grant %I to brainops_system', v_login);
    exception
      when insufficient_privilege then
        return next v_login;
    end;
  end loop;
end;
$$;

comment on function brainops_internal.join_logins is
  'Grants the tenants'' logins to brainops_system, so that the session guard may end their sessions. Returns the logins for which the caller lacks the right: CREATEROLE, and from Postgres 16 on the admin option on the login, which its creator has. Called by brainops.create_login and brainops migrate.';

revoke execute on function brainops_internal.join_logins() from public;
grant execute on function brainops_internal.join_logins() to brainops_admin, brainops_system;
