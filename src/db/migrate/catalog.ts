// Our objects in the database, by name: `function brainops.f(integer, text[])`, `view brainops.jobs`, `trigger
// a1_fill_tenant on public.tenants`.
import type pg from "pg";

/**
 * Functions in our schemas, views there and in public, and triggers on any table that call our functions. Types are
 * written as by format_type, without public. Objects of extensions and the copies of triggers on partitions are left
 * out.
 */
export async function catalogObjects(client: pg.Client): Promise<string[]> {
  const { rows } = await client.query<{ name: string }>(`
    with ours as (
      select oid, nspname from pg_namespace where nspname in ('brainops', 'brainops_internal')
    )
    select format('function %s.%s(%s)', n.nspname, p.proname, (
      select string_agg(regexp_replace(format_type(a.type, null), '^public\\.', ''), ', ' order by a.n)
      from unnest(p.proargtypes::oid[]) with ordinality as a (type, n)
    )) as name
    from pg_proc as p inner join ours as n on n.oid = p.pronamespace
    where not exists (
      select from pg_depend as d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    )
    union all
    select format('view %s.%s', n.nspname, c.relname)
    from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
    where (n.oid in (select oid from ours) or n.nspname = 'public') and c.relkind in ('v', 'm') and not exists (
      select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )
    union all
    select format('trigger %s on %s.%s', g.tgname, n.nspname, c.relname)
    from pg_trigger as g
    inner join pg_class as c on c.oid = g.tgrelid
    inner join pg_namespace as n on n.oid = c.relnamespace
    inner join pg_proc as p on p.oid = g.tgfoid
    where p.pronamespace in (select oid from ours) and not g.tgisinternal and g.tgparentid = 0
  `);
  return rows.map(({ name }) => name);
}
