// brainops.protect_table: the guard for tables that exist already.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { guardRules } from "../support/guardRules.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

describe("protect_table", () => {
  it("gives an existing table the complete guard, and may be called again", async () => {
    await db.query(
      "create table invoices (id uuid primary key default gen_random_uuid(), tenant_id uuid, total numeric)",
    );
    await db.query("grant all on invoices to public");
    await db.query("insert into invoices (tenant_id, total) values ($1, 1), ($2, 2)", [db.tenantA, db.tenantB]);
    expect(await db.query("select table_name::text, reason from brainops.unprotected_tables")).toEqual([
      { table_name: "invoices", reason: "row level security is off" },
    ]);
    await db.query("select brainops.protect_table('invoices')");
    await db.query("select brainops.protect_table('invoices')");
    await db.query("comment on table invoices is 'Bills.'");

    expect(await db.as("tenantA", "select total from invoices")).toEqual([{ total: "1" }]);
    expect(await db.as("tenantB", "insert into invoices (total) values (3) returning tenant_id")).toEqual([
      { tenant_id: db.tenantB },
    ]);
    expect((await refusal(db.as("anonymous", "select * from invoices"))).code).toBe("42501");
    expect((await refusal(db.as("tenantA", "insert into invoices (tenant_id) values ($1)", [db.tenantB]))).code).toBe(
      "42501",
    );
    expect(await db.as("admin", "select from invoices")).toHaveLength(3);
    for (const { rule, query, exceptions = {} } of guardRules) {
      const found = await db.query<{ problem: string }>(query);
      expect([rule, found.map((row) => row.problem).toSorted()]).toEqual([rule, Object.keys(exceptions).toSorted()]);
    }
  });

  it("may be called by an admin for a table that the admin owns", async () => {
    const admin = new URL(db.urlOf("admin")).username;
    await db.query(
      "create table notes (id uuid primary key default gen_random_uuid(), tenant_id uuid not null, words text)",
    );
    await db.query(
      `alter table notes owner to ${admin}; grant create on schema public to ${admin}; grant references on tenants to ${admin}`,
    );
    expect((await refusal(db.as("admin", "select brainops.protect_table('contact_suppressions')"))).code).toBe("42501");
    await db.as("admin", "select brainops.protect_table('notes')");
    expect(await db.as("tenantA", "insert into notes (words) values ('mine') returning tenant_id")).toEqual([
      { tenant_id: db.tenantA },
    ]);
    expect(await db.as("tenantB", "select from notes")).toEqual([]);
    await db.query("drop table notes");
  });

  it("covers partitions and children, which can be queried by their own names", async () => {
    await db.query(`
      create table visits (tenant_id uuid not null, at date not null) partition by range (at);
      create table visits_2026 partition of visits for values from ('2026-01-01') to ('2027-01-01');
      grant select on visits_2026 to brainops_tenant;
    `);
    await db.query("insert into visits values ($1, '2026-05-01')", [db.tenantB]);
    expect(await db.as("tenantA", "select from visits_2026")).toHaveLength(1);
    await db.query("select brainops.protect_table('visits')");
    expect((await refusal(db.as("tenantA", "select from visits_2026"))).code).toBe("42501");
    expect(await db.as("tenantA", "select from visits")).toHaveLength(0);
    expect(await db.as("tenantB", "select from visits")).toHaveLength(1);
    expect(await db.query("select * from brainops.unprotected_tables")).toEqual([]);
  });

  const obstacles: Readonly<Record<string, readonly [string, RegExp]>> = {
    "no tenant_id": ["create table o (id int)", /not have a column tenant_id of type uuid/],
    "a tenant_id that is not a uuid": ["create table o (tenant_id text)", /not have a column tenant_id of type uuid/],
    "a unique key without the tenant": [
      "create table o (tenant_id uuid, email text unique)",
      /o_email_key does not begin with tenant_id/,
    ],
    "a unique expression": [
      "create table o (tenant_id uuid, email text); create unique index o_lower on o (lower(email))",
      /o_lower does not begin with tenant_id/,
    ],
    "a number as primary key": [
      "create table o (id int primary key, tenant_id uuid)",
      /o_pkey does not begin with tenant_id/,
    ],
    "a foreign key that is not the pair": [
      "create table o (tenant_id uuid, lead_id uuid references revenue_leads (id))",
      /o_lead_id_fkey to public.revenue_leads is not the pair/,
    ],
    "a policy for everybody": [
      "create table o (tenant_id uuid); create policy open_house on o using (true)",
      /policy open_house applies to every role/,
    ],
    "a view": ["create view o as select id as tenant_id from tenants", /not an ordinary or partitioned table/],
    "rows without a tenant": [
      "create table o (tenant_id uuid); insert into o values (null)",
      /rows without a tenant_id/,
    ],
    "rows of a tenant that is not": [
      "create table o (tenant_id uuid); insert into o values (gen_random_uuid())",
      /rows of tenants that are not in/,
    ],
  };
  it.each(Object.entries(obstacles))("names the obstacle: %s", async (_name, [create, says]) => {
    const client = await db.connect("superuser");
    await client.query("begin");
    await client.query(create);
    const refused = await refusal(client.query("select brainops.protect_table('o')"));
    expect(refused).toMatchObject({ code: "OP008" });
    expect(refused.message).toMatch(says);
    expect(refused.hint).toBeTruthy();
    await client.query("rollback");
    await client.end();
  });
});
