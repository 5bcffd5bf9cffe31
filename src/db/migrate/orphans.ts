// Orphans: functions, views and triggers of ours in the database that no file of sql/ creates. A signature that was
// replaced without being dropped is one: it is dead, but may still be granted and called.
import type pg from "pg";
import { migrationsDirectory, sqlFiles } from "./files.ts";
import { withoutComments } from "./sqlText.ts";

/** A function, view or trigger of the catalog. */
export type CatalogObject =
  | {
      readonly kind: "function";
      readonly schema: string;
      readonly name: string;
      /** Types of its input arguments, as format_type writes them. */
      readonly args: readonly string[];
    }
  | { readonly kind: "view"; readonly schema: string; readonly name: string }
  | {
      readonly kind: "trigger";
      /** Schema of its table. */
      readonly schema: string;
      readonly table: string;
      readonly name: string;
    };

/**
 * Functions and views in our schemas, and triggers that call our functions, on whatever table. Objects of extensions
 * and the copies of triggers on partitions are left out.
 */
export async function catalogObjects(client: pg.Client): Promise<CatalogObject[]> {
  const { rows } = await client.query<{ object: CatalogObject }>(`
    with ours as (
      select oid, nspname from pg_namespace where nspname in ('brainops', 'brainops_internal')
    )
    select json_build_object(
      'kind', 'function', 'schema', n.nspname, 'name', p.proname, 'args', coalesce((
        select json_agg(format_type(a.type, null) order by a.n)
        from unnest(p.proargtypes::oid[]) with ordinality as a (type, n)
      ), '[]')
    ) as object
    from pg_proc as p inner join ours as n on n.oid = p.pronamespace
    where not exists (
      select from pg_depend as d where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e'
    )
    union all
    select json_build_object('kind', 'view', 'schema', n.nspname, 'name', c.relname)
    from pg_class as c inner join ours as n on n.oid = c.relnamespace
    where c.relkind in ('v', 'm') and not exists (
      select from pg_depend as d where d.classid = 'pg_class'::regclass and d.objid = c.oid and d.deptype = 'e'
    )
    union all
    select json_build_object('kind', 'trigger', 'schema', n.nspname, 'table', c.relname, 'name', g.tgname)
    from pg_trigger as g
    inner join pg_class as c on c.oid = g.tgrelid
    inner join pg_namespace as n on n.oid = c.relnamespace
    inner join pg_proc as p on p.oid = g.tgfoid
    where p.pronamespace in (select oid from ours) and not g.tgisinternal and g.tgparentid = 0
  `);
  return rows.map(({ object }) => object);
}

/** The database's orphans, each as SQL names it. */
export async function orphans(client: pg.Client, directory: string = migrationsDirectory): Promise<string[]> {
  const files = await sqlFiles(directory);
  return findOrphans(
    files.map(({ text }) => text),
    await catalogObjects(client),
  );
}

/** The objects that none of the texts creates, each as SQL names it: function brainops.f(integer). In order. */
export function findOrphans(texts: readonly string[], objects: readonly CatalogObject[]): string[] {
  const created = new Set(texts.flatMap((text) => creations(withoutComments(text))));
  return objects
    .filter((object) => !keysOf(object).some((key) => created.has(key)))
    .map(nameOf)
    .toSorted();
}

function nameOf(object: CatalogObject): string {
  switch (object.kind) {
    case "function":
      return `function ${object.schema}.${object.name}(${object.args.join(", ")})`;
    case "view":
      return `view ${object.schema}.${object.name}`;
    case "trigger":
      return `trigger ${object.name} on ${object.schema}.${object.table}`;
    default:
      return object satisfies never;
  }
}

/** What a text may say to create the object. */
function keysOf(object: CatalogObject): string[] {
  switch (object.kind) {
    case "function":
      return [`function ${object.schema}.${object.name}(${object.args.map(typeOf).join(", ")})`];
    case "view":
      return [`view ${object.schema}.${object.name}`];
    case "trigger":
      // `on %s`, in a function that makes triggers for any table.
      return [`trigger ${object.name} on ${object.schema}.${object.table}`, `trigger ${object.name} on any table`];
    default:
      return object satisfies never;
  }
}

/** What a text without comments creates: `function schema.name(types)`, `view schema.name`, `trigger name on schema.table`. */
export function creations(text: string): string[] {
  const functions = text.matchAll(
    /\bcreate\s+(?:or\s+replace\s+)?(?:function|procedure|aggregate)\s+(\w+)\.(\w+)\s*\(/gi,
  );
  const views = text.matchAll(/\bcreate\s+(?:or\s+replace\s+)?(?:materialized\s+)?view\s+(\w+)\.(\w+)/gi);
  const triggers = text.matchAll(
    /\bcreate\s+(?:or\s+replace\s+)?(?:constraint\s+)?trigger\s+(\w+)\s+(?:before|after|instead\s+of)\b[\s\S]*?\bon\s+(\S+)/gi,
  );
  return [
    ...[...functions].map((match) => {
      const [head, schema, name] = match;
      return `function ${schema}.${name}(${inputTypes(text, match.index + head.length).join(", ")})`;
    }),
    ...[...views].map(([, schema, name]) => `view ${schema}.${name}`),
    ...[...triggers].map(
      ([, name, table = ""]) => `trigger ${name} on ${/^\w+\.\w+$/.test(table) ? table : "any table"}`,
    ),
  ];
}

/** Types of the input arguments in the list that begins at the index, after its bracket. */
function inputTypes(text: string, start: number): string[] {
  const args: string[] = [""];
  let depth = 1;
  for (const [piece] of text.slice(start).matchAll(/'[^']*'|[\s\S]/g)) {
    if (piece === "(" || piece === "[") depth += 1;
    if (piece === ")" || piece === "]") depth -= 1;
    if (depth === 0) break;
    if (piece === "," && depth === 1) args.push("");
    else args[args.length - 1] += piece;
  }
  return args.flatMap((arg) => inputType(arg));
}

// Types of more than one word, which an argument without a name may begin with.
const LONG_TYPE = /^(?:double precision|character varying|bit varying|time(?:stamp)? with(?:out)? time zone)\b/;

/** Empty for an output argument, and for none at all. */
function inputType(arg: string): string[] {
  const [declared = ""] = arg.toLowerCase().split(/\bdefault\b|:?=/);
  const [, mode, rest = ""] =
    /^(?:(in|out|inout|variadic)\s+)?([\s\S]*)$/.exec(declared.trim().replaceAll(/\s+/g, " ")) ?? [];
  if (mode === "out" || rest === "") return [];
  const named = rest.includes(" ") && !LONG_TYPE.test(rest);
  return [typeOf(named ? rest.slice(rest.indexOf(" ") + 1) : rest)];
}

const ALIASES: Readonly<Record<string, string>> = {
  bool: "boolean",
  char: "character",
  decimal: "numeric",
  float4: "real",
  float8: "double precision",
  int: "integer",
  int2: "smallint",
  int4: "integer",
  int8: "bigint",
  time: "time without time zone",
  timestamp: "timestamp without time zone",
  timestamptz: "timestamp with time zone",
  timetz: "time with time zone",
  varchar: "character varying",
};

/** One spelling for each type: format_type's, without public and the length. */
function typeOf(type: string): string {
  const plain = type
    .replace(/\s*\([^)]*\)/, "")
    .replace(/^(?:public|pg_catalog)\./, "")
    .trim();
  const array = plain.endsWith("[]") ? "[]" : "";
  const element = plain.replaceAll("[]", "").trim();
  return `${ALIASES[element] ?? element}${array}`;
}
