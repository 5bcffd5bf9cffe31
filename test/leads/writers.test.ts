// Inserts exactly as existing clients write them: they are accepted, and work.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { scored } from "./support.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
  // One tenant, and clients that do not know of tenants.
  await db.query("update tenants set is_default = true where id = $1", [db.tenantA]);
});
afterAll(() => db?.close());

/** What a client inserts, from a connection that names no tenant. */
async function insert(text: string, values: readonly unknown[] = []): Promise<Record<string, unknown>> {
  const [row] = await db.as<Record<string, unknown>>("service", text, values);
  return row ?? {};
}

describe("revenue_leads", () => {
  it("accepts those of discovery: shape A with a score of 0 to 1", async () => {
    const row = await insert(
      `insert into revenue_leads (id, company_name, contact_name, email, phone, website, location, stage, score, value_estimate, source, metadata, created_at, updated_at)
       values ($1, 'Peak Roofing', 'Ann', 'ann@peak.example', '(303) 555-0111', 'https://peak.example', 'Denver, CO', 'new', 0.5, 25000.0, 'ai_discovery', '{"industry": "roofing"}', now(), now())
       returning id, tenant_id, score::float8 as score, stage`,
      ["11111111-1111-4111-8111-111111111111"],
    );
    expect(row).toEqual({ id: "11111111-1111-4111-8111-111111111111", tenant_id: db.tenantA, score: 50, stage: "new" });
  });

  it("accepts those of upsell: no company, an upper-case WON", async () => {
    const row = await insert(
      "insert into revenue_leads (email, source, stage, metadata) values ('won@peak.example', 'upsell', 'WON', '{}') returning stage, company_name, tenant_id",
    );
    expect(row).toEqual({ stage: "won", company_name: null, tenant_id: db.tenantA });
  });

  it("accepts those of the engine: later columns, its own lead id in metadata", async () => {
    const row = await insert(
      `insert into revenue_leads (company_name, contact_name, email, phone, status, industry, is_test, is_demo, score, stage, source, metadata, assigned_agent_id, lead_id, next_action, next_action_date, last_contact)
       values ('Corp', 'Bob', 'bob@corp.example', null, 'outreach_enrolled', 'roofing', false, false, 72, 'outreach_sent', 'engine', '{"lead_id": "lead-0123456789ab"}', gen_random_uuid(), gen_random_uuid(), 'call', now(), now())
       returning stage, status, score::float8 as score, metadata ->> 'lead_id' as theirs`,
    );
    expect(row).toEqual({ stage: "contacted", status: "outreach_enrolled", score: 72, theirs: "lead-0123456789ab" });
  });

  it.each([
    ["us", "+13035550188"],
    ["CA", "+13035550188"],
    ["gb", null],
    ["USA", "+13035550188"],
    [null, "+13035550188"],
  ])("parses a phone number without + for the tenant's country: %j gives %j", async (country, number) => {
    await db.query(
      "update tenants set settings = settings - 'country' || jsonb_strip_nulls(jsonb_build_object('country', $2::text)) where id = $1",
      [db.tenantA, country],
    );
    const row = await insert("insert into revenue_leads (phone) values ('(303) 555-0188') returning id, phone_e164");
    await db.query("delete from revenue_leads where id = $1", [row["id"]]);
    await db.query("update tenants set settings = settings - 'country' where id = $1", [db.tenantA]);
    expect(row["phone_e164"]).toBe(number);
  });

  it("accepts nulls from clients", async () => {
    const row = await insert(
      "insert into revenue_leads (company_name, email, phone, stage, score, metadata) values (null, null, null, null, null, null) returning stage, score::float8 as score, metadata",
    );
    expect(row).toEqual({ stage: "new", score: 0, metadata: {} });
  });

  it("accepts a qualification that inserts the lead again, and an increment of the score", async () => {
    const first = await insert(
      "insert into revenue_leads (company_name, contact_name, email, stage, score) values ('Corp', 'Cat', 'cat@gmail.com', 'new', 0.4) returning id",
    );
    await insert(
      `insert into revenue_leads (company_name, contact_name, email, stage, score, metadata)
       values ('Corp', 'Cat', 'CAT@gmail.com', 'qualified', 0.8, '{"budget": "high"}') returning id`,
    );
    expect(
      await db.query("select stage, score::float8 as score from revenue_leads where email = 'cat@gmail.com'"),
    ).toEqual([{ stage: "qualified", score: 80 }]);
    await db.as("service", "select set_config('app.tenant_id', $1, false)", [db.tenantA]);
    const client = await db.connect("service");
    await client.query("select set_config('app.tenant_id', $1, false)", [db.tenantA]);
    const { rows } = await client.query<{ score: string }>(
      "update revenue_leads set score = least(score + 5, 100), stage = 'replied', updated_at = now(), last_contact = now() where id = $1 returning score",
      [first["id"]],
    );
    expect(Number(rows[0]?.score)).toBe(85);
    expect(await scored(db, String(first["id"]))).toMatchObject({ score: 85, stage: "qualified", tier: "hot" });
  });
});

describe("rows that refer to a lead", () => {
  it("belong to its tenant, although the client names none", async () => {
    const [lead] = await db.query<{ id: string }>(
      "insert into revenue_leads (tenant_id, email) values ($1, 'b@other.example') returning id",
      [db.tenantB],
    );
    const mail = await insert(
      "insert into ai_email_queue (recipient, subject, body, status, metadata) values ($1, 'Hi', 'Body', 'queued', '{}') returning tenant_id, lead_id, status",
      [lead?.id],
    );
    expect(mail).toEqual({ tenant_id: db.tenantB, lead_id: lead?.id, status: "pending" });
  });

  it("include the workflow and steps of an onboarding", async () => {
    const lead = await insert(
      "insert into revenue_leads (email, company_name) values ('onb@peak.example', 'Peak') returning id",
    );
    const workflow = await insert(
      `insert into ai_onboarding_workflows (id, lead_id, status, current_step, total_steps, started_at)
       values (gen_random_uuid(), $1, 'in_progress', 1, 5, now()) returning lead_id, tenant_id`,
      [lead["id"]],
    );
    expect(workflow).toEqual({ lead_id: lead["id"], tenant_id: db.tenantA });
  });
});
