// Every tenant table is either a source of export and forget, or has nothing on people, for a reason. A new
// table fails here until it is one of the two.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { tenantTables } from "../support/seeds.ts";

/** Tables that hold nothing on the people whom a tenant writes to. */
const nothing: Readonly<Record<string, string>> = {
  "brainops.contact_counts": "numbers by hour",
  "brainops.breaker_tenants": "numbers and times of calls",
  "brainops.pauses": "what the tenant holds back",
  "brainops.rate_limits": "numbers",
  "brainops.sending_caps": "numbers",
  "brainops.sending_counts": "numbers by hour",
  "brainops.tenant_locks": "numbers of buckets",
  "brainops.session_events": "sessions of the tenant's own logins",
  "brainops.tenant_logins": "the tenant's own logins",
  ai_broadcasts: "what is sent to many",
  ai_campaign_templates: "copy",
  campaign_rules: "which leads a campaign enrols, by stage and tier",
  campaign_split_winners: "which of two texts won",
  campaign_steps: "what a campaign does",
  campaigns: "what a campaign is",
  contact_policies: "the tenant's rules",
  contact_topics: "the topics of the preference page",
  lead_forms: "the tenant's forms",
  marketing_holds: "why marketing is on hold",
  onboarding_templates: "the tenant's steps",
  payment_link_closures: "ids of payment requests",
  provider_credentials: "the tenant's own accounts",
  sender_warmups: "numbers",
  sms_numbers: "the tenant's own numbers",
  tenant_keys: "the tenant's own keys",
};

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

async function sources(): Promise<string[]> {
  const rows = await db.query<{ name: string }>("select source::regclass::text as name from brainops.person_sources()");
  return rows.map((row) => row.name);
}

describe("every tenant table", () => {
  it("is a source of export and forget, or has nothing on people", async () => {
    const known = new Set([...(await sources()), ...Object.keys(nothing)]);
    expect((await tenantTables(db)).filter((table) => !known.has(table))).toEqual([]);
  });

  it("is never both", async () => {
    expect((await sources()).filter((source) => nothing[source] !== undefined)).toEqual([]);
  });

  it("that refers to a lead is a source automatically", async () => {
    await db.query(
      `create table public.lead_notes (id uuid primary key default gen_random_uuid(), tenant_id uuid not null, lead_id uuid, note text,
         foreign key (tenant_id, lead_id) references revenue_leads (tenant_id, id) on delete set null (lead_id));
       create index on lead_notes (tenant_id, lead_id);
       select brainops.protect_table('public.lead_notes')`,
    );
    expect(await sources()).toContain("lead_notes");
    await db.as("tenantA", "insert into revenue_leads (email) values ('ann@example.com')");
    await db.as("tenantA", "insert into lead_notes (lead_id, note) select id, 'likes cats' from revenue_leads");
    const [erased] = await db.as(
      "tenantA",
      "select erased::int from brainops.forget('tenant-a', 'ann@example.com') where table_name = 'public.lead_notes'",
    );
    expect(erased).toEqual({ erased: 1 });
    expect(await db.query("select from lead_notes")).toEqual([]);
  });

  it("that is a source can be queried: its condition is valid SQL on the table", async () => {
    const rows = await db.query<{ source: string; condition: string }>("select * from brainops.person_sources()");
    for (const { source, condition } of rows) {
      await db.query(
        `select from ${source} as t cross join (select (brainops_internal.find_person($1, 'nobody@example.com')).*) as p where ${condition}`,
        [db.tenantA],
      );
    }
    expect(rows.length).toBeGreaterThan(25);
  });
});
