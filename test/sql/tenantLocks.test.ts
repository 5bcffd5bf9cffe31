// What a tenant may lock and write on a table as a whole: nothing that stops other tenants.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { seedBothTenants, touched } from "../support/seeds.ts";
import { clientColumns } from "./clientColumns.ts";

const MODES = [
  "access share",
  "row share",
  "row exclusive",
  "share update exclusive",
  "share",
  "share row exclusive",
  "exclusive",
  "access exclusive",
];

// Tables from which tenants delete, by brainops.delete_rows.
const DELETABLE = [
  "ai_broadcasts",
  "ai_campaign_templates",
  "ai_email_queue",
  "ai_nurture_campaigns",
  "ai_onboarding_steps",
  "ai_onboarding_workflows",
  "ai_sms_queue",
  "campaign_rules",
  "campaign_split_winners",
  "campaign_steps",
  "campaigns",
  "contact_policies",
  "contact_suppressions",
  "contact_topic_optouts",
  "contact_topics",
  "lead_forms",
  "lead_tasks",
  "onboarding_reminders",
  "onboarding_templates",
  "payment_requests",
  "plans",
  "revenue_leads",
  "tenant_notifications",
];

let db: TestDatabase;
let tenant: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  await seedBothTenants(db);
  await db.query(
    `create table public.notes (id uuid primary key default gen_random_uuid(), tenant_id uuid not null, words text);
     create table public.greetings (name text not null);
     select brainops.protect_table('public.notes'), brainops.define_job_table('greetings', 'greeting__say', true)`,
  );
  tenant = await db.connect("tenantA");
});

afterAll(() => db.close());

describe("LOCK TABLE by a tenant", () => {
  // The built-in Postgres has the same rule; locks among sessions need a server to matter.
  it("is refused beyond ROW EXCLUSIVE on every table and view", async () => {
    const relations = await db.query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
       where c.relkind in ('r', 'p', 'v') and (
         n.nspname in ('public', 'brainops', 'brainops_internal', 'graphile_worker') or c.relname = 'pg_settings'
       )`,
    );
    const granted: string[] = [];
    for (const { name } of relations) {
      for (const mode of MODES.slice(3)) {
        if ((await touched(tenant, `lock table ${name} in ${mode} mode`)) !== "42501") granted.push(`${name}: ${mode}`);
      }
    }
    expect(granted).toEqual([]);
    expect(relations.length).toBeGreaterThan(60);
    for (const mode of MODES.slice(0, 1))
      expect(await touched(tenant, `lock table ai_email_queue in ${mode} mode`)).toBe(0);
  });

  it("is not needed for its own rows: they can be locked, inserted, changed and deleted", async () => {
    const [row] = (await tenant.query<{ id: string }>("insert into notes (words) values ('one'), ('two') returning id"))
      .rows;
    await tenant.query("update notes set words = 'three' where id = $1", [row?.id]);
    expect(await touched(tenant, "select from notes for update")).toBe(2);
    await tenant.query(
      "insert into notes (id, words) values ($1, 'four') on conflict (id) do update set words = excluded.words",
      [row?.id],
    );
    expect((await tenant.query("select brainops.delete_rows('notes', array[$1::uuid])", [row?.id])).rows).toEqual([
      { delete_rows: 1 },
    ]);
    expect((await tenant.query("select words from notes")).rows).toEqual([{ words: "two" }]);
  });
});

describe("a tenant writes", () => {
  it.each(Object.entries(clientColumns))("the same columns of %s as before, and no others", async (table, columns) => {
    for (const seat of ["brainops_tenant", "brainops_service"]) {
      for (const privilege of ["INSERT", "UPDATE"] as const) {
        const [row] = await db.query<{ writable: string[] }>(
          `select array_agg(attname::text order by attname) filter (where has_column_privilege($1, attrelid, attnum, $2)) as writable
           from pg_attribute where attrelid = $3::regclass and attnum > 0 and not attisdropped and attgenerated = ''`,
          [seat, privilege, table],
        );
        expect([seat, privilege, row?.writable ?? []]).toEqual([seat, privilege, columns[privilege].toSorted()]);
      }
    }
  });

  it("no table of ours but these", async () => {
    const rows = await db.query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class as c inner join pg_namespace as n on n.oid = c.relnamespace
       where c.relkind in ('r', 'p') and n.nspname in ('public', 'brainops', 'brainops_internal')
         and has_any_column_privilege('brainops_tenant', c.oid, 'INSERT, UPDATE')`,
    );
    expect(rows.map(({ name }) => name).toSorted()).toEqual(
      [...Object.keys(clientColumns), "notes", "greetings"].toSorted(),
    );
  });

  it("no column that was added to a table later, until the table is protected again", async () => {
    await db.query("alter table revenue_leads add column secret_rating int");
    await db.query("alter table notes add column rating int");
    const refused = [
      "update revenue_leads set secret_rating = 1",
      "insert into revenue_leads (email, secret_rating) values ('a@example.com', 1)",
      "update notes set rating = 1",
    ];
    for (const text of refused) expect([text, await touched(tenant, text)]).toEqual([text, "42501"]);
    await db.query("select brainops.protect_table('public.notes')");
    expect(await touched(tenant, "update notes set rating = 1")).toBe(1);
  });
});

describe("brainops.delete_rows", () => {
  it("deletes from the tables from which tenants could delete, and from no other", async () => {
    const tables = await db.query<{ name: string }>(
      `select c.oid::regclass::text as name from pg_class as c
       inner join pg_attribute as a on a.attrelid = c.oid and a.attname = 'id' and a.atttypid = 'uuid'::regtype
       inner join pg_attribute as t on t.attrelid = c.oid and t.attname = 'tenant_id'
       where c.relkind in ('r', 'p') and not c.relispartition and c.relnamespace::regnamespace::text in ('public', 'brainops')`,
    );
    const answers = new Map<string, number | string>();
    for (const { name } of tables)
      answers.set(name, await touched(tenant, "select brainops.delete_rows($1, '{}')", [name]));
    const allowed = [...answers].filter(([, answer]) => answer === 1).map(([name]) => name);
    expect(allowed.toSorted()).toEqual([...DELETABLE, "greetings", "notes"].toSorted());
    expect(new Set(answers.values())).toEqual(new Set([1, "42501"]));
  });

  it("deletes no row of another tenant, and counts only what it deleted", async () => {
    const own = await tenant.query<{ id: string }>("insert into lead_forms (name) values ('own') returning id");
    const [other] = await db.query<{ id: string }>("select id from lead_forms where tenant_id = $1", [db.tenantB]);
    const ids = [own.rows[0]?.id, other?.id, null, own.rows[0]?.id];
    const { rows } = await tenant.query("select brainops.delete_rows('lead_forms', $1) as deleted", [ids]);
    expect(rows).toEqual([{ deleted: 1 }]);
    expect(await db.query("select id from lead_forms where id = $1", [other?.id])).toHaveLength(1);
  });

  it("does not believe a tenant's settings", async () => {
    const [other] = await db.query<{ id: string }>("select id from lead_forms where tenant_id = $1", [db.tenantB]);
    const client = await db.connect("tenantA");
    for (const [name, value] of [
      ["app.tenant_id", db.tenantB],
      ["request.jwt.claims", JSON.stringify({ tenant_id: db.tenantB })],
    ]) {
      await client.query("select set_config($1, $2, false)", [name, value]);
    }
    const { rows } = await client.query("select brainops.delete_rows('lead_forms', array[$1::uuid]) as deleted", [
      other?.id,
    ]);
    expect(rows).toEqual([{ deleted: 0 }]);
  });

  it("says what is wrong with a call", async () => {
    const errors = async (text: string, values: unknown[] = []): Promise<string | undefined> =>
      (await refusal(tenant.query(text, values))).code;
    expect(await errors("select brainops.delete_rows('payment_ledger', '{}')")).toBe("42501");
    expect(await errors("select brainops.delete_rows('no_table', '{}')")).toBe("OP007");
    expect(await errors("select brainops.delete_rows(null, null)")).toBe("OP007");
    const many = Array.from({ length: 10_001 }, () => db.tenantA);
    expect(await errors("select brainops.delete_rows('lead_forms', $1)", [many])).toBe("54000");
    expect((await refusal(db.as("service", "select brainops.delete_rows('lead_forms', '{}')"))).code).toBe("OP001");
    expect((await refusal(db.as("admin", "select brainops.delete_rows('lead_forms', '{}')"))).code).toBe("OP001");
    expect((await refusal(db.as("anonymous", "select brainops.delete_rows('lead_forms', '{}')"))).code).toBe("42501");
  });

  it("leaves DELETE to services", async () => {
    const client = await db.connect("service");
    await client.query("select set_config('app.tenant_id', $1, false)", [db.tenantA]);
    const { rows } = await client.query<{ id: string }>("insert into lead_forms (name) values ('mine') returning id");
    expect((await client.query("delete from lead_forms where id = $1", [rows[0]?.id])).rowCount).toBe(1);
    expect((await client.query("select brainops.delete_rows('lead_forms', '{}')")).rows).toEqual([{ delete_rows: 0 }]);
  });
});

describe("what Postgres lets everybody do", () => {
  const writes = [
    "select lo_from_bytea(0, 'x')",
    "select lo_create(0)",
    "select lo_creat(-1)",
    "select lo_put(1, 0, 'x')",
    "select lowrite(0, 'x')",
    "select lo_truncate(0, 1), lo_truncate64(0, 1)",
    "select pg_logical_emit_message(false, 'x', repeat('x', 1000))",
    "update pg_settings set setting = '1s' where name = 'statement_timeout'",
  ];
  it.each(writes)("and tenants may not: %s", async (statement) => {
    for (const seat of ["tenantA", "anonymous"] as const)
      expect((await refusal(db.as(seat, statement))).code).toBe("42501");
  });

  it.skipIf(!isServer)("may stay open where the migrator is not a superuser: it is named", async () => {
    await db.query("grant execute on function lo_create(oid) to public");
    try {
      const client = await db.connect("superuser");
      await client.query("set role brainops_system");
      const { rows } = await client.query("select object from brainops_internal.open_server_rights()");
      expect(rows).toEqual([{ object: "lo_create(oid)" }]);
    } finally {
      await db.query("select brainops_internal.close_server_rights()");
    }
    expect(await db.query("select from brainops_internal.open_server_rights()")).toEqual([]);
  });
});
