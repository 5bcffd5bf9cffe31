-- How tenants delete: see grants.sql for why not by DELETE.

-- Runs as brainops_service, under that role's policies: they show the rows of brainops.current_tenant_id(), which goes by
-- the login. So the function can do nothing that a service of this tenant could not. Triggers see the same role as for a
-- service's own DELETE.
create or replace function brainops.delete_rows(p_table text, p_ids uuid[])
returns int
language plpgsql
security definer
set search_path = ''
as $$
declare
  c_most constant int := 10000;
  v_table regclass := coalesce(to_regclass('public.' || quote_ident(p_table)), to_regclass(p_table));
  v_tenant_id uuid := brainops.current_tenant_id();
  v_count int;
begin
  if v_tenant_id is null then
    raise exception 'tenant: login "%" is not bound to one', session_user
      using errcode = 'OP001', hint = 'A member of brainops_service sets app.tenant_id first. An admin uses DELETE.';
  end if;
  if cardinality(p_ids) > c_most then
    raise exception 'ids: % were given, and at most % are allowed', cardinality(p_ids), c_most
      using errcode = 'program_limit_exceeded', hint = 'Call the function again for the other rows.';
  end if;
  if not exists (
    select from pg_catalog.pg_attribute as i
    inner join pg_catalog.pg_attribute as t on t.attrelid = i.attrelid and t.attname = 'tenant_id' and not t.attisdropped
    where i.attrelid = v_table and i.attname = 'id' and i.atttypid = 'uuid'::regtype and not i.attisdropped
  ) then
    raise exception 'table: % is not a table of tenants with an id', quote_nullable(left(p_table, 100))
      using errcode = 'OP007', hint = 'Give the name of a table such as ai_email_queue, with its schema unless that is public.';
  end if;
  if not has_table_privilege(v_table, 'delete') then
    raise exception 'table: tenants may not delete from %', v_table
      using errcode = 'insufficient_privilege', hint = 'The engine writes the table, or it is append only; a row of a job table can be cancelled.';
  end if;
  execute format('delete from %s where id = any ($1) and tenant_id = $2', v_table) using p_ids, v_tenant_id;
  get diagnostics v_count = row_count;
  return v_count;
end;
$$;

comment on function brainops.delete_rows(text, uuid[]) is
  'Deletes rows of the caller''s tenant from table p_table by their ids, and returns how many it deleted; other ids, null among them, are ignored. p_table: its name, with the schema unless that is public. p_ids: at most 10,000; null: none. The table''s triggers and foreign keys may refuse it, as for DELETE. 42501: tenants may not delete from the table. 54000: too many ids. OP001: the caller has no tenant. OP007: no such table.';

-- The new owner must be able to create functions in the schema, for this statement only.
grant create on schema brainops to brainops_service;
alter function brainops.delete_rows(text, uuid[]) owner to brainops_service;
revoke create on schema brainops from brainops_service;
revoke execute on function brainops.delete_rows(text, uuid[]) from public;
grant execute
on function brainops.delete_rows(text, uuid[])
to brainops_tenant, brainops_worker, brainops_service, brainops_admin;
