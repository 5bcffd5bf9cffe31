// The SQL of the pages: the examples run in their order on the page, and what the pages list exists.
import { readFile } from "node:fs/promises";
import { isDeepStrictEqual } from "node:util";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

// In this order: the first page creates the tenant that the others use.
const pages = [
  "sql/_README.md",
  "src/revenue/README.md",
  "src/revenue/email/README.md",
  "src/revenue/sms/README.md",
  "src/revenue/campaigns/README.md",
  "src/revenue/payments/README.md",
  "src/jobs/custom-tasks.md",
  "src/cli/README.md",
];
const texts = await Promise.all(pages.map(pageText));
const [page = ""] = texts;
const tables = await pageText("sql/_tables.md");

function pageText(path: string): Promise<string> {
  return readFile(new URL(`../../${path}`, import.meta.url), "utf8");
}

let section = "";
const examples = [...texts.join("\n").matchAll(/^## (?<section>.+)$|^```sql\n(?<sql>[\s\S]*?)^```$/gm)].flatMap(
  ({ groups }) => {
    section = groups?.["section"] ?? section;
    return groups?.["sql"] === undefined ? [] : [{ section, sql: groups["sql"] }];
  },
);

let db: TestDatabase;
let client: pg.Client;
// Logins belong to the whole server: these must not collide with those of another run.
const suffix = Math.random().toString(36).slice(2, 10);
const logins = ["acme_app", "my_worker", "new_owner"];
const login = `acme_app_${suffix}`;

beforeAll(async () => {
  db = await createTestDatabase();
  client = await db.connect("superuser");
});

afterAll(async () => {
  for (const name of logins) await client.query(`drop role if exists ${name}_${suffix}`);
  await db.close();
});

describe("an example of sql/_README.md", () => {
  it.each(examples)("runs: $section", async ({ sql }) => {
    const own = logins.reduce((text, name) => text.replaceAll(name, `${name}_${suffix}`), sql);
    await expect(client.query(own)).resolves.toBeDefined();
  });

  it("is found on every page", () => {
    expect(examples.length).toBeGreaterThanOrEqual(21);
    for (const text of texts) expect(text).toContain("```sql\n");
  });

  it("had the effect that the page describes", async () => {
    expect(
      await db.query("select from brainops.jobs where table_name = 'invoice_pdfs' and status = 'pending'"),
    ).toHaveLength(1);
    expect(await db.query("select * from brainops.unprotected_tables")).toEqual([]);
    expect(await db.query("select from contact_suppressions where reason = 'forgotten'")).toHaveLength(1);
    expect(await db.query("select login from brainops.tenant_logins where login = $1", [login])).toHaveLength(1);
  });
});

describe("the table of roles and tables", () => {
  it("lists every table that a DBA sees", async () => {
    const found = await db.query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class as c
       where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace::regnamespace::text in ('public', 'brainops')
         and c.relname not in ('migrations_applied', 'migrations_version', 'migrations_after_applied', 'migrations_after_version', 'migrations_repeatable', 'migrations_lock', 'concurrent_migrations', 'embedded_connections', 'invoice_pdfs', 'notes', 'greetings')`,
    );
    const missing = found.map((row) => row.name).filter((name) => !tables.includes(`\`${name}\``));
    expect(missing).toEqual([]);
  });
});

describe("the table of functions", () => {
  // | `retry(p_table text, p_id uuid)` → text | T | … |, and in bold the heads of its groups.
  const rows = [...page.matchAll(/^\| `(\w+)\((.*?)\)`(?: → [^|]+)? \| (\w) \|/gm)];
  const listed = rows.map(([, name = "", parameters = "", who = ""]) => ({ name, parameters, who }));

  // Both ways: what people call is in schema brainops, and nothing else is.
  it("lists each function with its arguments", async () => {
    expect(listed.length).toBeGreaterThan(40);
    const found = await db.query<{ name: string; arguments: string }>(
      `select proname as name, pg_get_function_arguments(oid) as arguments from pg_proc
       where pronamespace = 'brainops'::regnamespace`,
    );
    const wrong = listed.filter(({ name, parameters }) => {
      const given = argumentsOf(parameters);
      // Three dots stand for parameters that another page lists.
      const shown = given.at(-1) === "…" ? given.slice(0, -1) : given;
      const known = found.filter((row) => row.name === name).map((row) => argumentsOf(row.arguments));
      return !known.some((all) => isDeepStrictEqual(shown === given ? all : all.slice(0, shown.length), shown));
    });
    expect(wrong).toEqual([]);
  });

  it("lists who may call it", async () => {
    const found = await db.query<{ name: string; who: string }>(
      `select distinct proname as name,
         case
           when has_function_privilege('brainops_tenant', oid, 'execute') then 'T'
           when has_function_privilege('brainops_admin', oid, 'execute') then 'A'
           when has_function_privilege('brainops_system', oid, 'execute') then 'S'
           else 'O'
         end as who
       from pg_proc where pronamespace = 'brainops'::regnamespace`,
    );
    expect(Object.fromEntries(listed.map(({ name, who }) => [name, who]))).toEqual(
      Object.fromEntries(found.map(({ name, who }) => [name, who])),
    );
  });
});

/** p_tenant text DEFAULT NULL::text, p_most int = 5 → ["p_tenant text?", "p_most int?"]; return types are left out. */
function argumentsOf(parameters: string): string[] {
  return parameters
    .replaceAll("integer", "int")
    .replaceAll("timestamp with time zone", "timestamptz")
    .replaceAll("time without time zone", "time")
    .split(", ")
    .filter((parameter) => parameter !== "" && !parameter.startsWith("OUT "))
    .map((parameter) => parameter.replace(/ (?:DEFAULT|=) .*/, "?"));
}
