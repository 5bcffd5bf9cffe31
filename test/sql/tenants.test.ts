// Every tenant table as seen by a tenant: no statement touches a row of another tenant.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { seedBothTenants, touched } from "../support/seeds.ts";

const REFUSED = "42501";

let db: TestDatabase;
let tables: string[];
let asA: pg.Client;
const idsOfB = new Map<string, string>();

beforeAll(async () => {
  db = await createTestDatabase();
  tables = await seedBothTenants(db);
  asA = await db.connect("tenantA");
  for (const table of await db.query<{ name: string }>(
    `select distinct attrelid::regclass::text as name from pg_attribute
     where attrelid = any ($1::regclass[]) and attname = 'id' and atttypid = 'uuid'::regtype`,
    [tables],
  )) {
    const [row] = await db.query<{ ids: string }>(
      `select array_agg(id)::text as ids from ${table.name} where tenant_id = $1`,
      [db.tenantB],
    );
    idsOfB.set(table.name, row?.ids ?? "{}");
  }
});

afterAll(() => db.close());

/** Every row of tenant B, as one value. */
async function rowsOfB(): Promise<string> {
  const parts: string[] = [];
  for (const table of tables) {
    const [row] = await db.query<{ all: string }>(
      `select coalesce(string_agg(to_jsonb(t)::text, ',' order by to_jsonb(t)::text), '') as all from ${table} as t where tenant_id = $1`,
      [db.tenantB],
    );
    parts.push(row?.all ?? "");
  }
  return parts.join("\n");
}

/** For each table a column that tenants may write, if the table has one. */
async function writable(privilege: "INSERT" | "UPDATE"): Promise<Map<string, string>> {
  const rows = await db.query<{ table: string; column: string }>(
    `select distinct on (attrelid) attrelid::regclass::text as table, quote_ident(attname) as column from pg_attribute
     where attrelid = any ($1::regclass[]) and attnum > 0 and not attisdropped and attgenerated = ''
       and has_column_privilege('brainops_tenant', attrelid, attnum, $2)
     order by attrelid, attname = 'tenant_id', attname = 'id', attnum`,
    [tables, privilege],
  );
  return new Map(rows.map((row) => [row.table, row.column]));
}

async function touchesOfEachTable(
  statement: (table: string) => string,
  values: readonly unknown[],
  among: Iterable<string> = tables,
): Promise<Record<string, number | string>> {
  const found: Record<string, number | string> = {};
  for (const table of among) found[table] = await touched(asA, statement(table), values);
  return found;
}

/** What was touched, and whether the statement was allowed on enough tables to have shown anything. */
function summary(found: Record<string, number | string>, least: number): unknown {
  const some = Object.entries(found).filter(([, rows]) => rows !== 0 && rows !== REFUSED);
  return { touched: some, shown: Object.values(found).filter((rows) => rows === 0).length >= least };
}

const NOTHING = { touched: [], shown: true };

describe("tenant A", () => {
  it("reads its own rows, in every table that it may read", async () => {
    const own = await touchesOfEachTable((table) => `select * from ${table} where tenant_id = $1`, [db.tenantA]);
    expect(own).toMatchObject({ ai_email_queue: 1, revenue_leads: 1, webhook_events: 1, "brainops.job_events": 1 });
    expect(Object.values(own).filter((rows) => rows === 0)).toEqual([]);
  });

  const reads: Readonly<Record<string, (table: string) => string>> = {
    select: (table) => `select * from ${table} where tenant_id <> $1`,
    "select for update": (table) => `select * from ${table} where tenant_id <> $1 for update`,
    "select for key share": (table) => `select * from ${table} where tenant_id <> $1 for key share`,
    "a condition on the whole row": (table) =>
      `select * from ${table} as t where t.tenant_id <> $1 and t::text like '%'`,
    delete: (table) =>
      `select from (select brainops.delete_rows('${table}', '${idsOfB.get(table) ?? "{}"}') as n where $1::uuid is not null) as d where n > 0`,
    "delete returning": (table) => `delete from ${table} where tenant_id <> $1 returning *`,
    merge: (table) =>
      `merge into ${table} as t using (select $1::uuid as mine) as s on t.tenant_id <> s.mine when matched then delete`,
  };
  it.each(Object.entries(reads))("touches no row of B by %s", async (name, statement) => {
    // Tenants have no DELETE on any table.
    const least = /delete returning|merge/.test(name) ? 0 : 2;
    const among = name === "delete" ? idsOfB.keys() : tables;
    expect(summary(await touchesOfEachTable(statement, [db.tenantA], among), least)).toEqual(NOTHING);
  });

  it("touches no row of B by update, with and without a condition", async () => {
    const columns = await writable("UPDATE");
    const set = (table: string): string => `${columns.get(table)} = t.${columns.get(table)}`;
    const where = (table: string): string => `update ${table} as t set ${set(table)} where tenant_id <> $1 returning 1`;
    expect(summary(await touchesOfEachTable(where, [db.tenantA], columns.keys()), 3)).toEqual(NOTHING);
    const all = await touchesOfEachTable((table) => `update ${table} as t set ${set(table)}`, [], columns.keys());
    const own = await touchesOfEachTable(
      (table) => `select 1 from ${table} where tenant_id = $1`,
      [db.tenantA],
      columns.keys(),
    );
    expect(all).toEqual(own);
    expect(Object.values(own)).not.toContain(0);
  });

  it("copies out its own rows only", async () => {
    const before = await touchesOfEachTable((table) => `select * from ${table}`, []);
    expect(await touchesOfEachTable((table) => `copy (select * from ${table}) to stdout`, [])).toEqual(before);
    expect(before["ai_email_queue"]).toBe(1);
  });

  it("cannot insert a row of B, nor make one of its own B's", async () => {
    const found = await touchesOfEachTable((table) => `insert into ${table} (tenant_id) values ($1)`, [db.tenantB]);
    // A row that no tenant could have is refused for that reason, before its tenant is looked up.
    const refusals = new Set([REFUSED, "23502", "OP004", "OP005", "OP017"]);
    expect(new Set(Object.values(found)).difference(refusals)).toEqual(new Set());
    for (const text of [
      "insert into revenue_leads (tenant_id) values ($1)",
      "insert into ai_email_queue (tenant_id, recipient, subject, body) values ($1, 'x@example.com', 's', 'b')",
      "insert into contact_suppressions (tenant_id, address) values ($1, 'x@example.com')",
      "update revenue_leads set tenant_id = $1",
      "update contact_suppressions set tenant_id = $1",
      "update ai_email_queue set tenant_id = $1",
    ]) {
      expect([text, await touched(asA, text, [db.tenantB])]).toEqual([text, REFUSED]);
      expect([text, await touched(asA, text, [db.tenantA])]).toEqual([
        text,
        text.includes("set tenant_id") && text.includes("queue") ? REFUSED : 1,
      ]);
    }
  });

  it("learns nothing of B's unique values by on conflict", async () => {
    const insert =
      "insert into contact_suppressions (address) values ($1) on conflict (tenant_id, channel, address_key)";
    await db.query("insert into contact_suppressions (tenant_id, address) values ($1, 'only-b@example.com')", [
      db.tenantB,
    ]);
    expect(await touched(asA, `${insert} do nothing`, ["only-b@example.com"])).toBe(1);
    expect(await touched(asA, `${insert} do update set reason = 'mine' returning *`, ["only-b@example.com"])).toBe(1);
    const [lead] = await db.query<{ id: string }>("select id from revenue_leads where tenant_id = $1", [db.tenantB]);
    const steal =
      "insert into revenue_leads (id, email) values ($1, 'x') on conflict (id) do update set email = 'stolen'";
    expect(await touched(asA, steal, [lead?.id])).toBe(REFUSED);
  });

  it("cannot query a partition by its own name, and cannot truncate", async () => {
    const partitions = await db.query<{ name: string }>(
      "select oid::regclass::text as name from pg_class where relispartition and relkind = 'r' and relnamespace = 'brainops'::regnamespace",
    );
    expect(partitions.length).toBeGreaterThan(10);
    const refused = await touchesOfEachTable(
      (name) => `select * from ${name}`,
      [],
      partitions.map((row) => row.name),
    );
    expect(new Set(Object.values(refused))).toEqual(new Set([REFUSED]));
    const truncated = await touchesOfEachTable((name) => `truncate ${name}`, []);
    expect(new Set(Object.values(truncated))).toEqual(new Set([REFUSED]));
  });

  it("sees only itself in every view", async () => {
    const views = await db.query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class as c
       inner join pg_attribute as a on a.attrelid = c.oid and a.attname = 'tenant_id'
       where c.relkind = 'v' and c.relnamespace::regnamespace::text in ('public', 'brainops')`,
    );
    const names = views.map((row) => row.name);
    expect(names).toEqual(expect.arrayContaining(["brainops.jobs", "brainops.queue_health", "brainops.dead_letters"]));
    const found = await touchesOfEachTable(
      (view) => `select * from ${view} where tenant_id <> $1`,
      [db.tenantA],
      names,
    );
    expect(summary(found, 3)).toEqual(NOTHING);
    const own = await db.query("select from brainops.jobs where tenant_id = $1", [db.tenantA]);
    expect(own.length).toBeGreaterThan(1);
    expect(await touched(asA, "select * from brainops.jobs")).toBe(own.length);
    expect(await touched(asA, "select * from tenants")).toBe(1);
  });

  it("gets the same error for another tenant's lead as for an unknown one", async () => {
    const [lead] = await db.query<{ id: string }>("select id from revenue_leads where tenant_id = $1", [db.tenantB]);
    const [own] = await db.query<{ id: string }>("select id from revenue_leads where tenant_id = $1", [db.tenantA]);
    const nowhere = "00000000-0000-4000-8000-000000000000";
    const byColumn =
      "insert into ai_email_queue (recipient, subject, body, lead_id) values ('x@example.com', 's', 'b', $1)";
    const byRecipient = "insert into ai_email_queue (recipient, subject, body) values ($1, 's', 'b')";
    for (const [text, code] of [
      [byColumn, "23503"],
      [byRecipient, "OP004"],
    ] as const) {
      expect(await touched(asA, text, [lead?.id])).toBe(code);
      expect(await touched(asA, text, [nowhere])).toBe(code);
      expect(await touched(asA, text, [own?.id])).toBe(1);
    }
    expect(
      await touched(asA, "select 1 where brainops_internal.find_lead($1, $2) is not null", [lead?.id, db.tenantB]),
    ).toBe("42501");
  });

  it("has changed nothing of B after all that", async () => {
    const before = await rowsOfB();
    expect(before).toContain(db.tenantB);
    for (const table of tables) {
      await touched(asA, `update ${table} set tenant_id = $1`, [db.tenantA]);
      await asA.query(`delete from ${table} where tenant_id = '${db.tenantB}'`).catch(() => {});
      await asA.query("select brainops.delete_rows($1, $2)", [table, idsOfB.get(table) ?? "{}"]).catch(() => {});
    }
    expect(await rowsOfB()).toBe(before);
  });
});
