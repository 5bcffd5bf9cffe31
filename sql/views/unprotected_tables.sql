drop view if exists brainops.unprotected_tables;

create view brainops.unprotected_tables
with (security_invoker = true)
as
  select
    c.oid::regclass as table_name,
    case
      when not c.relrowsecurity then 'row level security is off'
      when not c.relforcerowsecurity then 'row level security is not forced'
      else 'it has no policy'
    end as reason
  from
    pg_catalog.pg_class as c
    inner join pg_catalog.pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
  where
    c.relkind in ('r', 'p')
    and c.relnamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    and (
      not c.relrowsecurity
      or not c.relforcerowsecurity
      or not exists (select from pg_catalog.pg_policy as p where p.polrelid = c.oid)
    );

comment on view brainops.unprotected_tables is
  'Tables with a column tenant_id that lack row level security or a policy, with the reason. Must be empty; brainops.protect_table gives a table the guard.';

grant select on brainops.unprotected_tables to brainops_admin;
