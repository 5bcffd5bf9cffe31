// Which tenant a login is: only services are trusted to name it.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, type Seat, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { touched } from "../support/seeds.ts";

const GARBAGE = ["", "garbage", "{}", "''", "null", "00000000-0000-4000-8000-00000000000", "\n", "٣"];
const GARBAGE_CLAIMS = [
  ...GARBAGE,
  "[1]",
  '"text"',
  '{"tenant_id": 7}',
  '{"tenant_id": {"a": 1}}',
  '{"tenant_id": "\\u0000"}',
  '{"tenant_id": "\\ud800"}',
  "[".repeat(20_000),
];

let db: TestDatabase;
const leads: Partial<Record<"a" | "b", string>> = {};

beforeAll(async () => {
  db = await createTestDatabase();
  for (const [name, tenantId] of [
    ["a", db.tenantA],
    ["b", db.tenantB],
  ] as const) {
    const [row] = await db.query<{ id: string }>(
      "insert into revenue_leads (tenant_id, email) values ($1, $2) returning id",
      [tenantId, `lead@${name}.example`],
    );
    if (row !== undefined) leads[name] = row.id;
  }
});

beforeEach(() => db.query("update tenants set is_default = false where is_default"));

afterAll(() => db.close());

const INSERT = "insert into ai_email_queue (recipient, subject, body) values ($1, 'Hello', 'Hi') returning tenant_id";

/** Which tenant the seat is after these statements. */
async function whoIs(seat: Seat, settings: Readonly<Record<string, string>>): Promise<string | null | undefined> {
  const client = await db.connect(seat);
  for (const [name, value] of Object.entries(settings))
    await client.query("select set_config($1, $2, false)", [name, value]);
  const { rows } = await client.query<{ id: string | null; seen: string }>(
    `select (select brainops.current_tenant_id()) as id, coalesce(string_agg(distinct tenant_id::text, ' '), '') as seen from revenue_leads`,
  );
  await client.end();
  expect(rows[0]?.seen).toBe(rows[0]?.id ?? "");
  return rows[0]?.id;
}

const claims = (tenantId: string): string => JSON.stringify({ role: "authenticated", tenant_id: tenantId });

describe("a tenant's login", () => {
  it("is its tenant, whatever it sets", async () => {
    for (const name of [
      "app.tenant_id",
      "brainops.statement_tenant",
      "brainops.inserted_tenant",
      "request.jwt.claim.tenant_id",
    ]) {
      expect([name, await whoIs("tenantA", { [name]: db.tenantB })]).toEqual([name, db.tenantA]);
    }
    expect(await whoIs("tenantA", { "request.jwt.claims": claims(db.tenantB) })).toBe(db.tenantA);
    expect(await whoIs("tenantB", { "app.tenant_id": db.tenantA })).toBe(db.tenantB);
  });

  it("cannot become another tenant", async () => {
    const client = await db.connect("tenantA");
    const other = new URL(db.urlOf("tenantB")).username;
    for (const role of ["brainops_service", "brainops_worker", "brainops_admin", "brainops_system", other]) {
      expect([role, await touched(client, `set role ${role}`)]).toEqual([role, "42501"]);
    }
    expect(await touched(client, `set session authorization ${other}`)).toBe("42501");
    expect(await touched(client, "set role brainops_tenant")).toBe(0);
    expect(await touched(client, "set row_security = off; select * from revenue_leads")).toBe("42501");
  });

  it("inserts for itself, however it forges the setting that supplies the tenant", async () => {
    const forge = (setting: string, value: string): string =>
      `insert into ai_email_queue (recipient, subject, body)
       select 'x@example.com', 's' || set_config('${setting}', '${value}', true), 'b' from generate_series(1, 3)`;
    const client = await db.connect("tenantA");
    expect(await touched(client, forge("brainops.statement_tenant", db.tenantB))).toBe("42501");
    expect(await touched(client, forge("brainops.statement_tenant", "garbage"))).toBe("22P02");
    expect(await touched(client, forge("brainops.statement_tenant", ""))).toBe(3);
    expect(await touched(client, forge("brainops.inserted_tenant", db.tenantB))).toBe(3);
    expect(await touched(client, forge("app.tenant_id", db.tenantB))).toBe(3);
    expect(await touched(client, forge("brainops.statement_tenant", db.tenantA))).toBe(3);
    expect(await db.query("select from ai_email_queue where recipient = 'x@example.com'")).toEqual([]);
  });

  it("needs no tenant_id, and may give its own", async () => {
    expect(await db.as("tenantA", INSERT, ["x@example.com"])).toEqual([{ tenant_id: db.tenantA }]);
    expect(await db.as("tenantA", "insert into revenue_leads (tenant_id) values (null) returning tenant_id")).toEqual([
      { tenant_id: db.tenantA },
    ]);
  });
});

describe("a service's login", () => {
  it("has no tenant without a setting, and the named one with it", async () => {
    expect(await whoIs("service", {})).toBeNull();
    expect(await whoIs("service", { "app.tenant_id": db.tenantB })).toBe(db.tenantB);
    expect(await whoIs("service", { "request.jwt.claims": claims(db.tenantA) })).toBe(db.tenantA);
    expect(await whoIs("service", { "app.tenant_id": db.tenantB, "request.jwt.claims": claims(db.tenantA) })).toBe(
      db.tenantB,
    );
  });

  it("has no tenant with garbage in the setting, and gets no error", async () => {
    for (const value of GARBAGE)
      expect([value, await whoIs("service", { "app.tenant_id": value })]).toEqual([value, null]);
    for (const value of GARBAGE_CLAIMS) {
      expect([value, await whoIs("service", { "request.jwt.claims": value })]).toEqual([value, null]);
    }
  });

  it("has no tenant again once the transaction that named it has ended", async () => {
    const client = await db.connect("service");
    const who = async (): Promise<unknown> =>
      (await client.query<{ id: unknown }>("select (select brainops.current_tenant_id()) as id")).rows[0]?.id;
    for (const end of ["commit", "rollback"]) {
      await client.query("begin");
      await client.query("select set_config('app.tenant_id', $1, true)", [db.tenantA]);
      expect(await who()).toBe(db.tenantA);
      await client.query(INSERT, ["x@example.com"]);
      await client.query(end);
      expect(await who()).toBeNull();
    }
  });

  it("inserts for the tenant that it names: by setting, by claim or in the row", async () => {
    const client = await db.connect("service");
    await client.query("begin");
    await client.query("select set_config('app.tenant_id', $1, true)", [db.tenantB]);
    expect((await client.query(INSERT, ["x@example.com"])).rows).toEqual([{ tenant_id: db.tenantB }]);
    await client.query("commit");
    expect(await touched(client, "insert into revenue_leads (tenant_id) values ($1) returning id", [db.tenantA])).toBe(
      1,
    );
    // A service that has named A cannot write B's rows.
    await client.query("select set_config('app.tenant_id', $1, false)", [db.tenantA]);
    expect(await touched(client, "insert into revenue_leads (tenant_id) values ($1)", [db.tenantB])).toBe("42501");
    await client.query("select set_config('app.tenant_id', 'garbage', false)");
    expect(await touched(client, "insert into revenue_leads (tenant_id) values ($1)", [db.tenantB])).toBe("42501");
  });

  it("inserts for the tenant of the lead that the row refers to", async () => {
    expect(await db.as("service", INSERT, [leads.b])).toEqual([{ tenant_id: db.tenantB }]);
    const byMetadata =
      "insert into ai_email_queue (recipient, subject, body, metadata) values ('x@example.com', 's', 'b', jsonb_build_object('lead_id', $1::text))";
    await db.as("service", byMetadata, [leads.a]);
    const [row] = await db.query("select tenant_id from ai_email_queue where lead_id = $1", [leads.a]);
    expect(row).toEqual({ tenant_id: db.tenantA });
    // Rows of several tenants in one statement.
    const several =
      "insert into ai_email_queue (recipient, subject, body) values ($1, 'several', 'b'), ($2, 'several', 'b')";
    await db.as("service", several, [leads.a, leads.b]);
    expect(
      await db.query(
        "select from ai_email_queue as q inner join revenue_leads as l on l.id = q.lead_id and l.tenant_id = q.tenant_id where q.subject = 'several'",
      ),
    ).toHaveLength(2);
    expect((await refusal(db.as("service", INSERT, ["00000000-0000-4000-8000-000000000000"]))).code).toBe("OP004");
  });

  it("inserts for the one default tenant, else the error says how to name one", async () => {
    const refused = await refusal(db.as("service", INSERT, ["x@example.com"]));
    expect(refused.code).toBe("OP001");
    expect(refused.message).toContain("ai_email_queue");
    expect(refused.hint).toMatch(/tenant_id.*app\.tenant_id.*is_default/);
    await db.query("update tenants set is_default = true where id = $1", [db.tenantB]);
    expect(await db.as("service", INSERT, ["x@example.com"])).toEqual([{ tenant_id: db.tenantB }]);
    // A value that is not a tenant's id is a mistake, not a request for the default tenant.
    const client = await db.connect("service");
    await client.query("set app.tenant_id = 'tenant-a'");
    expect(await touched(client, INSERT, ["x@example.com"])).toBe("OP001");
    expect((await refusal(db.query("update tenants set is_default = true"))).code).toBe("23505");
  });
});

describe("any other login", () => {
  it("sees nothing and writes nothing: no grants, no tenant", async () => {
    for (const text of ["select * from revenue_leads", "select * from tenants", "select * from brainops.jobs"]) {
      expect([text, (await refusal(db.as("anonymous", text))).code]).toEqual([text, "42501"]);
    }
    expect((await refusal(db.as("anonymous", "select brainops.current_tenant_id()"))).code).toBe("42501");
  });

  it("has no tenant as a member of brainops_tenant that is bound to no tenant", async () => {
    const client = await db.connect("superuser");
    await client.query("begin");
    await client.query(`grant brainops_tenant to ${new URL(db.urlOf("anonymous")).username}`);
    await client.query("commit");
    expect(await whoIs("anonymous", {})).toBeNull();
    expect(
      await whoIs("anonymous", { "app.tenant_id": db.tenantA, "request.jwt.claims": claims(db.tenantA) }),
    ).toBeNull();
    expect((await refusal(db.as("anonymous", INSERT, ["x@example.com"]))).code).toBe("OP001");
    expect(
      (await refusal(db.as("anonymous", "insert into revenue_leads (tenant_id) values ($1)", [db.tenantA]))).code,
    ).toBe("42501");
  });

  it("has no tenant as a worker that has named none", async () => {
    const client = await db.connect("worker");
    await client.query("set role brainops_worker");
    expect((await client.query("select from revenue_leads")).rowCount).toBe(0);
    expect(await touched(client, "insert into revenue_leads (tenant_id) values ($1)", [db.tenantA])).toBe("42501");
    await client.query("select set_config('app.tenant_id', $1, false)", [db.tenantA]);
    expect(await touched(client, "insert into revenue_leads (tenant_id) values ($1)", [db.tenantA])).toBe(1);
    expect(await touched(client, "insert into revenue_leads (tenant_id) values ($1)", [db.tenantB])).toBe("42501");
  });
});
