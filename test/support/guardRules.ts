// The guard of tenant tables as queries over the catalog. Each query returns the violations of its rule.
// Each rule has a statement that violates it, which proves that the query detects violations.

export interface GuardRule {
  readonly rule: string;
  /** One column, `problem`. */
  readonly query: string;
  /** Violates the rule; run in a transaction that is rolled back. */
  readonly breakIt: string;
  /** Values of `problem` that are intended, with the reason. */
  readonly exceptions?: Readonly<Record<string, string>>;
}

const ours = "n.nspname in ('public', 'brainops', 'brainops_internal')";
const notSystem = "n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')";
const tables = "pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace and c.relkind in ('r', 'p')";
const anyRelation =
  "pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')";
const tenantColumn = "pg_attribute as t on t.attrelid = c.oid and t.attname = 'tenant_id' and not t.attisdropped";
const clients = "unnest(array['brainops_tenant', 'brainops_service', 'brainops_worker']) as r (role)";
const badTable = "create table public.bad (id uuid primary key, tenant_id uuid not null, email text, lead_id uuid)";

/** Whether a policy's condition calls a function per row, i.e. outside of a sub-select. */
const bareCall = (tree: string): string =>
  `position('{FUNCEXPR' in ${tree}) > 0
   and (position('{SUBLINK' in ${tree}) = 0 or position('{FUNCEXPR' in ${tree}) < position('{SUBLINK' in ${tree}))`;

export const guardRules: readonly GuardRule[] = [
  {
    rule: "row level security is enabled and forced on every table with a tenant_id, partitions included",
    query: `select c.oid::regclass::text as problem from ${tables} inner join ${tenantColumn}
            where ${notSystem} and not (c.relrowsecurity and c.relforcerowsecurity)`,
    breakIt: `${badTable}; alter table public.bad enable row level security`,
  },
  {
    rule: "brainops.unprotected_tables is empty",
    query: "select table_name::text as problem from brainops.unprotected_tables",
    breakIt: badTable,
  },
  {
    rule: "tenant_id is a uuid and never null",
    query: `select c.oid::regclass::text as problem from ${tables} inner join ${tenantColumn}
            where ${notSystem} and not (t.attnotnull and t.atttypid = 'uuid'::regtype)`,
    breakIt: "create table public.bad (tenant_id uuid)",
    exceptions: {
      plans: "null: a price for everyone",
      webhook_events: "null: the event belongs to no message of ours",
      "brainops.pauses": "null: every tenant",
      "brainops.rate_limits": "null: all tenants together",
      "brainops.sending_caps": "null: every tenant without a cap of its own",
    },
  },
  {
    rule: "every policy names its roles",
    query: "select polname || ' on ' || polrelid::regclass as problem from pg_policy where 0 = any (polroles)",
    breakIt: `${badTable}; create policy p on public.bad using (true) with check (true)`,
  },
  {
    rule: "no policy calls a function for each row",
    query: `select polname || ' on ' || polrelid::regclass as problem from pg_policy
            where (${bareCall("polqual::text")}) or (${bareCall("polwithcheck::text")})`,
    breakIt: `${badTable}; create policy p on public.bad for select to brainops_tenant
              using (tenant_id = brainops.current_tenant_id())`,
  },
  {
    rule: "every policy that lets write says what",
    query: `select polname || ' on ' || polrelid::regclass as problem from pg_policy
            where polcmd in ('a', 'w', '*') and polwithcheck is null`,
    breakIt: `${badTable}; create policy p on public.bad for all to brainops_tenant using (true)`,
  },
  {
    rule: "one permissive policy at most for a table, command and role",
    query: `select p.polrelid::regclass || ' for ' || cmd::text || ' to ' || role::regrole as problem
            from pg_policy as p
            cross join unnest(case p.polcmd when '*' then '{a,r,w,d}'::"char"[] else array[p.polcmd] end) as cmd
            cross join unnest(p.polroles) as role
            where p.polpermissive group by p.polrelid, cmd, role having count(*) > 1`,
    breakIt: `create policy p on public.revenue_leads for select to brainops_tenant using (source = 'public')`,
  },
  {
    rule: "every unique key of a tenant table begins with tenant_id, except random uuid primary keys",
    query: `select i.indexrelid::regclass::text as problem
            from ${tables} inner join ${tenantColumn} inner join pg_index as i on i.indrelid = c.oid
            left join pg_attribute as a on a.attrelid = c.oid and a.attnum = i.indkey[0]
            where ${notSystem} and (i.indisunique or i.indisexclusion) and a.attname is distinct from 'tenant_id'
              and not (i.indisprimary and i.indnkeyatts = 1 and a.atttypid = 'uuid'::regtype)`,
    breakIt: `${badTable}; create unique index bad_email on public.bad (lower(email))`,
    exceptions: { "brainops.tenant_logins_pkey": "a login is one tenant's; admins alone write it" },
  },
  {
    rule: "a foreign key between tenant tables is the pair (tenant_id, x_id)",
    query: `select con.conname || ' on ' || con.conrelid::regclass as problem
            from pg_constraint as con
            inner join pg_attribute as t on t.attrelid = con.conrelid and t.attname = 'tenant_id'
            inner join pg_attribute as f on f.attrelid = con.confrelid and f.attname = 'tenant_id'
            where con.contype = 'f' and not exists (
              select from unnest(con.conkey, con.confkey) as k (mine, theirs)
              where k.mine = t.attnum and k.theirs = f.attnum
            )`,
    breakIt: `${badTable}; alter table public.bad add foreign key (lead_id) references public.revenue_leads (id)`,
  },
  {
    rule: "every foreign key is indexed",
    query: `select con.conname || ' on ' || con.conrelid::regclass as problem
            from pg_constraint as con
            inner join pg_class as c on c.oid = con.conrelid
            inner join pg_namespace as n on n.oid = c.relnamespace
            where con.contype = 'f' and ${ours} and not exists (
              select from pg_index as i
              where i.indrelid = con.conrelid
                and (i.indkey::smallint[])[0:cardinality(con.conkey) - 1] @> con.conkey
                and (i.indpred is null or pg_get_expr(i.indpred, i.indrelid) like '(%_id IS NOT NULL)')
            )`,
    breakIt: `${badTable}; alter table public.bad add foreign key (tenant_id) references public.tenants (id)`,
  },
  {
    rule: "every view runs with the rights of whoever asks",
    query: `select c.oid::regclass::text as problem from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
            where ${ours} and c.relkind = 'v' and not coalesce(c.reloptions @> array['security_invoker=true'], false)`,
    breakIt: "create view public.bad as select * from public.revenue_leads",
  },
  {
    rule: "no materialized view and no foreign table exists: row level security does not apply to them",
    query: `select c.oid::regclass::text as problem from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
            where ${ours} and c.relkind in ('m', 'f')`,
    breakIt: "create materialized view public.bad as select * from public.revenue_leads",
  },
  {
    rule: "a function with its owner's rights pins search_path to nothing and belongs to brainops_system",
    query: `select p.oid::regprocedure::text as problem from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
            where ${ours} and p.prosecdef and not (
              coalesce(p.proconfig @> array['search_path=""'], false) and p.proowner = 'brainops_system'::regrole
            )`,
    breakIt: "create function brainops.bad() returns int language sql security definer as $$ select 1 $$",
    exceptions: {
      "brainops.delete_rows(text,uuid[])": "belongs to brainops_service, so that it deletes what a service may",
    },
  },
  {
    rule: "no function of ours can be executed by everybody",
    query: `select p.oid::regprocedure::text as problem from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
            cross join aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as acl
            where ${ours} and acl.grantee = 0
              and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')`,
    breakIt: "create function brainops.bad() returns int language sql as $$ select 1 $$",
  },
  {
    rule: "the five roles cannot log in and have no rights beyond their grants",
    query: `select rolname::text as problem from pg_roles
            where rolname in ('brainops_tenant', 'brainops_worker', 'brainops_service', 'brainops_admin', 'brainops_system')
              and (rolcanlogin or rolbypassrls or rolsuper or rolcreaterole or rolcreatedb or rolreplication)`,
    breakIt: "alter role brainops_tenant bypassrls",
  },
  {
    rule: "clients have no TRUNCATE, REFERENCES or TRIGGER, which row level security does not see",
    query: `select role || ' ' || privilege || ' ' || c.oid::regclass as problem
            from ${tables} cross join ${clients} cross join unnest(array['TRUNCATE', 'REFERENCES', 'TRIGGER']) as privilege
            where ${notSystem} and has_table_privilege(role, c.oid, privilege)`,
    breakIt: "grant truncate on public.revenue_leads to brainops_tenant",
  },
  {
    rule: "tenants hold no right on a whole table that lets them lock it beyond ROW EXCLUSIVE",
    query: `select privilege || ' ' || c.oid::regclass as problem
            from ${anyRelation} cross join unnest(array['UPDATE', 'DELETE', 'TRUNCATE']) as privilege
            where n.nspname <> 'information_schema' and has_table_privilege('brainops_tenant', c.oid, privilege)`,
    breakIt: "grant delete on public.revenue_leads to brainops_tenant",
  },
  {
    rule: "tenants may delete by brainops.delete_rows from tables with an id only",
    query: `select c.oid::regclass::text as problem from ${tables}
            where ${notSystem} and has_table_privilege('brainops_service', c.oid, 'DELETE') and not exists (
              select from pg_attribute as a where a.attrelid = c.oid and a.attname = 'id' and a.atttypid = 'uuid'::regtype
            )`,
    breakIt: "create table public.bad (tenant_id uuid primary key); grant delete on public.bad to brainops_service",
  },
  {
    rule: "no role but ours holds a right on our tables, views and sequences",
    query: `select stranger || ' on ' || c.oid::regclass as problem
            from ${anyRelation} cross join brainops_internal.strangers(c.relowner, c.relacl) as stranger
            where n.nspname in ('public', 'brainops', 'brainops_internal')
              and not exists (select from pg_depend as d where d.objid = c.oid and d.deptype = 'e')`,
    breakIt: "grant select on public.revenue_leads to public",
  },
  {
    rule: "clients have no rights on partitions, which would be asked past their parent's policies",
    query: `select role || ' on ' || c.oid::regclass as problem from ${tables} cross join ${clients}
            where c.relispartition and has_table_privilege(role, c.oid, 'SELECT, INSERT, UPDATE, DELETE')`,
    breakIt: `create table brainops.job_events_bad partition of brainops.job_events for values from ('1999-01-01') to ('1999-02-01');
              grant select on brainops.job_events_bad to brainops_tenant`,
  },
  {
    rule: "clients may not enter graphile_worker, nor create anything in any schema",
    query: `select role || ' ' || privilege || ' ' || n.nspname as problem
            from pg_namespace as n cross join ${clients} cross join unnest(array['CREATE', 'USAGE']) as privilege
            where (privilege = 'CREATE' or n.nspname = 'graphile_worker') and has_schema_privilege(role, n.oid, privilege)`,
    breakIt: "grant usage on schema graphile_worker to brainops_tenant",
  },
  {
    rule: "where tenants may insert, the tenant is filled in",
    query: `select c.oid::regclass::text as problem from ${tables} inner join ${tenantColumn}
            where has_any_column_privilege('brainops_tenant', c.oid, 'INSERT') and (
              select count(*) from pg_trigger as g
              where g.tgrelid = c.oid and g.tgname in ('a0_remember_tenant', 'a1_fill_tenant') and g.tgenabled <> 'D'
            ) <> 2`,
    breakIt: `${badTable}; grant insert on public.bad to brainops_tenant`,
  },
  {
    rule: "a publication of all tables can identify every row, and so refuses no update and no delete",
    query: `select c.oid::regclass::text as problem from ${tables}
            where ${ours} and c.relkind = 'r' and c.relpersistence = 'p' and c.relreplident not in ('f', 'i')
              and not (c.relreplident = 'd' and exists (select from pg_index as i where i.indrelid = c.oid and i.indisprimary))`,
    breakIt: "create table public.bad (tenant_id uuid)",
  },
  {
    rule: "every table and view has a comment",
    query: `select c.oid::regclass::text as problem from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
            where ${ours} and c.relkind in ('r', 'p', 'v') and not c.relispartition and obj_description(c.oid, 'pg_class') is null`,
    breakIt: badTable,
  },
  {
    rule: "every function that is granted to a role has a comment",
    query: `select p.oid::regprocedure::text as problem from pg_proc as p inner join pg_namespace as n on n.oid = p.pronamespace
            where ${ours} and p.prorettype <> 'trigger'::regtype and obj_description(p.oid, 'pg_proc') is null
              and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')
              and exists (
                select from unnest(array['brainops_tenant', 'brainops_service', 'brainops_worker', 'brainops_admin']) as r (role)
                where has_function_privilege(role, p.oid, 'EXECUTE')
              )`,
    breakIt: "create function public.bad() returns int language sql as $$ select 1 $$",
  },
];
