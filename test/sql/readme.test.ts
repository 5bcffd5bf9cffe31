// sql/_README.md: each of its examples runs, in the order in which it stands there.
import { readFile } from "node:fs/promises";
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

const page = await readFile(new URL("../../sql/_README.md", import.meta.url), "utf8");
const blocks = [...page.matchAll(/^## (?<section>.+)$|^```sql\n(?<sql>[\s\S]*?)^```$/gm)];

let section = "";
const examples = blocks.flatMap(({ groups }) => {
  section = groups?.["section"] ?? section;
  return groups?.["sql"] === undefined ? [] : [{ section, sql: groups["sql"] }];
});

let db: TestDatabase;
let client: pg.Client;
// Logins belong to the whole server: this one must not meet another run's.
const login = `acme_app_${Math.random().toString(36).slice(2, 10)}`;

beforeAll(async () => {
  db = await createTestDatabase();
  client = await db.connect("superuser");
});

afterAll(async () => {
  await client.query(`drop role if exists ${login}`);
  await db.close();
});

describe("an example of sql/_README.md", () => {
  it.each(examples)("runs: $section", async ({ sql }) => {
    await expect(client.query(sql.replaceAll("acme_app", login))).resolves.toBeDefined();
  });

  it("stands beside the others", () => {
    expect(examples.length).toBeGreaterThanOrEqual(9);
  });

  it("did what the page says", async () => {
    expect(
      await db.query("select from brainops.jobs where table_name = 'invoice_pdfs' and status = 'pending'"),
    ).toHaveLength(1);
    expect(await db.query("select * from brainops.unprotected_tables")).toEqual([]);
    expect(await db.query("select from contact_suppressions where reason = 'forgotten'")).toHaveLength(1);
    expect(await db.query("select login from brainops.tenant_logins where login = $1", [login])).toHaveLength(1);
  });
});

describe("the table of roles and tables", () => {
  it("names every table that a DBA sees", async () => {
    const tables = await db.query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class as c
       where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace::regnamespace::text in ('public', 'brainops')
         and c.relname not in ('migrations_applied', 'migrations_version', 'migrations_after_applied', 'migrations_after_version', 'migrations_repeatable', 'concurrent_migrations', 'embedded_connections', 'invoice_pdfs', 'notes')`,
    );
    const missing = tables.map((row) => row.name).filter((name) => !page.includes(`\`${name}\``));
    expect(missing).toEqual([]);
  });
});
