// Whatever a tenant can write is bounded: every text, JSON value, array and number of every table that a tenant may
// insert into or update. Read from the catalog, so that a new column without a bound fails here.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { seedBothTenants } from "../support/seeds.ts";

interface Column {
  readonly table: string;
  readonly name: string;
  readonly type: string;
  readonly inserts: boolean;
  readonly updates: boolean;
  readonly constraints: string;
}

// Columns of variable length. A foreign key bounds a column by the one that it refers to.
const COLUMNS = `
  select c.oid::regclass::text as table, a.attname as name, format_type(a.atttypid, null) as type,
    has_column_privilege('brainops_tenant', c.oid, a.attnum, 'insert') as inserts,
    has_column_privilege('brainops_tenant', c.oid, a.attnum, 'update') as updates,
    coalesce((
      select string_agg(pg_get_constraintdef(k.oid), E'\\n') from pg_constraint as k
      where k.conrelid = c.oid and k.contype in ('c', 'f') and a.attnum = any (k.conkey)
    ), '') as constraints
  from pg_class as c
  inner join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
  where c.relkind in ('r', 'p') and not c.relispartition and a.attlen = -1
    and c.relnamespace::regnamespace::text in ('public', 'brainops', 'brainops_internal')
    and (has_column_privilege('brainops_tenant', c.oid, a.attnum, 'insert')
      or has_column_privilege('brainops_tenant', c.oid, a.attnum, 'update'))
  order by 1, a.attnum`;

// Columns that a trigger bounds, or a function that a constraint calls.
const BOUND_BY: Readonly<Record<string, string>> = {
  "ai_broadcasts.subject": "check_broadcast: 998 characters",
  "ai_broadcasts.body": "check_broadcast: 1 MiB",
  "ai_broadcasts.metadata": "refuse_large_metadata: 256 KiB",
  "ai_email_queue.recipient": "check_email_row: 254 characters",
  "ai_email_queue.subject": "check_email_row: 998 characters",
  "ai_email_queue.body": "check_email_row: 1 MiB",
  "ai_email_queue.metadata": "refuse_large_metadata: 256 KiB",
  "ai_sms_queue.recipient": "check_sms_row: a phone number or a uuid",
  "ai_sms_queue.body": "check_sms_row: 32,768 characters",
  "ai_sms_queue.metadata": "refuse_large_metadata: 64 KiB",
  "payment_requests.amount": "check_payment_request: the plan's amount",
  "plans.amount": "before_plan_write: what Stripe takes",
  "revenue_leads.time_zone": "is_time_zone: the name of a time zone",
};

/** Whether one of the column's constraints limits its size: a length, a list of values, a pattern or a range. */
function isBounded({ name, type, constraints }: Column): boolean {
  const column = `"?${name}"?`;
  const bounds = [
    `(?:length|octet_length|pg_column_size)\\((?:btrim\\()?${column}\\)+ <= \\d+`,
    `${column} = ANY \\(ARRAY\\[`,
    `${column} ~ '\\^[^']*\\{\\d,\\d+\\}\\$'`,
    `FOREIGN KEY \\((?:\\w+, )*${column}[,)].*REFERENCES`,
    ...(type === "numeric" ? [`abs\\(${column}\\) < `, `${column} <= `] : []),
  ];
  return bounds.some((bound) => new RegExp(bound).test(constraints));
}

// 2 MB, more than any column holds. A number has no more than 131,072 digits.
const LARGE: Readonly<Record<string, string>> = {
  text: "repeat('a', 2000000)",
  jsonb: "jsonb_build_object('x', repeat('a', 2000000))",
  "text[]": "array_fill('a'::text, array[200000])",
  "integer[]": "array_fill(1, array[200000])",
  numeric: "('1' || repeat('0', 100000))::numeric",
};

let db: TestDatabase;
let tenant: pg.Client;
let columns: readonly Column[];
beforeAll(async () => {
  db = await createTestDatabase();
  await seedBothTenants(db);
  tenant = await db.connect("tenantA");
  columns = await db.query<pg.QueryResultRow & Column>(COLUMNS);
});
afterAll(() => db?.close());

/** Whether the statement leaves a large value in the column; it is rolled back. */
async function stores(statement: string, { table, name }: Column): Promise<boolean> {
  await tenant.query("begin");
  try {
    await tenant.query(statement);
    return (
      ((await tenant.query(`select from ${table} where octet_length("${name}"::text) >= 100000`)).rowCount ?? 0) > 0
    );
  } catch {
    return false;
  } finally {
    await tenant.query("rollback");
  }
}

describe("a column that tenants may write", () => {
  it("has a bound in a constraint, or one of those listed above", () => {
    const unbounded = columns.filter((column) => !isBounded(column)).map(({ table, name }) => `${table}.${name}`);
    expect(unbounded).toEqual(Object.keys(BOUND_BY));
  });

  it("takes no large value by update", async () => {
    const taken: string[] = [];
    for (const column of columns) {
      const { table, name, type, updates } = column;
      if (updates && (await stores(`update ${table} set "${name}" = ${LARGE[type]}`, column)))
        taken.push(`${table}.${name}`);
    }
    expect(taken).toEqual([]);
  });

  it("takes no large value by insert", async () => {
    const taken: string[] = [];
    for (const column of columns) {
      const { table, name, type, inserts } = column;
      if (!inserts) continue;
      const others = columns
        .filter((other) => other.table === table && other.inserts && other.name !== name)
        .map((other) => `"${other.name}"`);
      const list = [`"${name}"`, ...others].join(", ");
      const values = [LARGE[type], ...others].join(", ");
      if (await stores(`insert into ${table} (${list}) select ${values} from ${table} limit 1`, column)) {
        taken.push(`${table}.${name}`);
      }
    }
    expect(taken).toEqual([]);
  });
});

describe("metadata", () => {
  const insertLead =
    "insert into revenue_leads (contact_name, metadata) values ('Bo', jsonb_build_object('x', repeat('a', $1)))";
  const insertText =
    "insert into ai_sms_queue (recipient, body, metadata) values ('+13035550177', '{{ x }}', jsonb_build_object('x', repeat('a', $1)))";

  it("of a lead has at most 64 KiB: a claim of its mails is never too large to load", async () => {
    await tenant.query(insertLead, [65_000]);
    expect((await refusal(tenant.query(insertLead, [66_000]))).message).toContain("metadata_at_most_65536_bytes");
    expect((await refusal(tenant.query(insertLead, [80_000_000]))).code).toBe("23514");
  });

  it("of a lead does not grow without end when the person is captured again", async () => {
    for (const key of ["a", "b", "c"]) {
      await tenant.query(
        "insert into revenue_leads (email, metadata) values ('cy@example.com', jsonb_build_object($1::text, repeat('a', 30000)))",
        [key],
      );
    }
    const [lead] = await db.query(
      "select metadata ?& '{a,b}' as kept, metadata ? 'c' as over from revenue_leads where email = 'cy@example.com'",
    );
    expect(lead).toEqual({ kept: true, over: false });
  });

  it("of a text has at most 64 KiB", async () => {
    await tenant.query(insertText, [65_000]);
    expect(await refusal(tenant.query(insertText, [256_000]))).toMatchObject({ code: "OP006", column: "metadata" });
  });
});

describe("a campaign rule", () => {
  const insertRule = "insert into campaign_rules (campaign_id, name, condition) values ($1, $2, $3)";
  const conditions = (n: number): string =>
    JSON.stringify({ any: Array.from({ length: n }, () => ({ event: "page_visited", within: "1 day" })) });

  it("has a condition of at most 100 parts", async () => {
    await tenant.query(insertRule, [db.tenantA, "many", conditions(99)]);
    const error = await refusal(tenant.query(insertRule, [db.tenantA, "too many", conditions(20_000)]));
    expect(error.code).toBe("OP022");
    expect(error.message).toContain("at most");
    expect((await refusal(tenant.query(insertRule, [db.tenantA, "one more", conditions(100)]))).message).toContain(
      "has 101 parts; at most 100 are allowed",
    );
  });

  it("is one of at most 100 of its tenant", async () => {
    const insertMany = `insert into campaign_rules (campaign_id, name, tiers)
      select $1, 'rule ' || n, '{hot}' from generate_series($2::int, $3::int) as n`;
    const [{ n } = { n: 0 }] = await db.query<{ n: number }>(
      "select count(*)::int as n from campaign_rules where tenant_id = $1",
      [db.tenantA],
    );
    await tenant.query(insertMany, [db.tenantA, n + 1, 100]);
    expect(await refusal(tenant.query(insertMany, [db.tenantA, 101, 101]))).toMatchObject({ code: "54000" });
    await db.as("tenantB", insertMany, [db.tenantB, 1, 50]);
  });
});

describe("what becomes a header of a mail", () => {
  const insertMail =
    "insert into ai_email_queue (recipient, subject, body, metadata) values ('bo@example.com', 'Hello', 'Hi', $1)";

  it.each([
    { reply_to: "help@example.com" },
    { reply_to: "Ann <ann@example.com>", category: "news" },
    { reply_to: '"Ann, Sales" <ann@example.com>' },
    { reply_to: 7, category: null },
  ])("may be %j", async (metadata) => {
    expect((await tenant.query(insertMail, [JSON.stringify(metadata)])).rowCount).toBe(1);
  });

  it.each([
    { reply_to: "a@example.com\r\nBcc: b@example.com" },
    { reply_to: "a@example.com, b@example.com" },
    { reply_to: "nobody" },
    { reply_to: "Ann \u202e <ann@example.com>" },
    { reply_to: `${"A".repeat(1000)} <ann@example.com>` },
    { category: "news\nX: y" },
    { category: "\u2066news" },
    { category: "c".repeat(256) },
  ])("is refused as %j", async (metadata) => {
    expect(await refusal(tenant.query(insertMail, [JSON.stringify(metadata)]))).toMatchObject({
      code: "OP006",
      column: "metadata",
    });
  });

  it("is refused for a broadcast, and as a tenant's mail_from", async () => {
    const broadcast = "insert into ai_broadcasts (subject, body, metadata) values ('Hello', 'Hi', $1)";
    const wrong = "a@example.com\nBcc: b@example.com";
    await tenant.query(broadcast, [JSON.stringify({ reply_to: "Ann <ann@example.com>" })]);
    expect((await refusal(tenant.query(broadcast, [JSON.stringify({ reply_to: wrong })]))).code).toBe("OP006");
    const set = "update tenants set settings = jsonb_build_object('mail_from', $2::text) where id = $1";
    await db.as("admin", set, [db.tenantA, "Acme <news@example.com>"]);
    expect((await refusal(db.as("admin", set, [db.tenantA, wrong]))).code).toBe("23514");
  });
});
