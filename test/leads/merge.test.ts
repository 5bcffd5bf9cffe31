// The same person twice in one tenant is one lead, and no values or events are lost.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { refusal } from "../support/refusal.ts";
import { seedBothTenants } from "../support/seeds.ts";
import { insertLead, leadOf, scored } from "./support.ts";

let db: TestDatabase;
let n = 0;
const fresh = (): { email: string; phone: string } => {
  n += 1;
  return { email: `p${n}@merge.example`, phone: `+1303555${String(n).padStart(4, "0")}` };
};

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db?.close());

const insertAs = "insert into revenue_leads (email, contact_name) values ($1, $2) returning id";
const count = async (email: string): Promise<number> =>
  (await db.query("select from revenue_leads where lower(email) = lower($1)", [email])).length;

describe("a person who is inserted again", () => {
  it("is the same lead, by any spelling of the address or of the number", async () => {
    const { email, phone } = fresh();
    const first = await insertLead(db, { email, phone, contact_name: "Ann" });
    const local = phone.slice(2);
    const again = [
      { email: ` ${email.toUpperCase()} ` },
      { phone: `(${local.slice(0, 3)}) ${local.slice(3, 6)}-${local.slice(6)}` },
      { phone: `001${local}`, contact_name: "Ann" },
    ];
    for (const columns of again) {
      const returned = await insertLead(db, columns);
      expect(returned).not.toBe(first);
      expect((await leadOf(db, returned)).id).toBe(first);
    }
    expect(
      await db.query("select event from lead_events where lead_id = $1 and event = 'merged'", [first]),
    ).toHaveLength(3);
    expect(await count(email)).toBe(1);
  });

  it("fills empty columns; different values are kept in metadata", async () => {
    const { email } = fresh();
    const first = await insertLead(db, { email, contact_name: "Ann", metadata: { roof: "flat" } });
    const more = {
      email,
      contact_name: "Anne",
      company_name: "Corp",
      stage: "WON",
      metadata: { roof: "steep", age: 9 },
    };
    const second = await insertLead(db, more);
    expect(
      await db.query("select contact_name, company_name, stage, metadata from revenue_leads where id = $1", [first]),
    ).toEqual([
      {
        contact_name: "Ann",
        company_name: "Corp",
        stage: "won",
        metadata: {
          roof: "flat",
          age: 9,
          merged: [
            { id: second, at: expect.any(String), values: { contact_name: "Anne", metadata: { roof: "steep" } } },
          ],
        },
      },
    ]);
    await insertLead(db, more);
    expect((await leadOf(db, first)).metadata["merged"]).toHaveLength(1);
  });

  it("is found by a row that refers to the id that the insert returned", async () => {
    const { email } = fresh();
    const first = await insertLead(db, { email });
    const second = await insertLead(db, { email });
    const mails = await db.as<{ lead_id: string }>(
      "tenantA",
      `insert into ai_email_queue (recipient, subject, body, metadata, scheduled_for) values
         ($1, 's', 'b', '{}', '2100-01-01Z'), ($2, 's', 'b', jsonb_build_object('lead_id', $1::text), '2100-01-01Z')
       returning lead_id`,
      [second, email],
    );
    const events = await db.as<{ lead_id: string }>(
      "tenantA",
      "insert into lead_events (lead_id, event) values ($1, 'page_seen') returning lead_id",
      [second],
    );
    expect([...mails, ...events].map((row) => row.lead_id)).toEqual([first, first, first]);
  });

  it("in another tenant is another lead", async () => {
    const { email } = fresh();
    await insertLead(db, { email });
    await db.as("tenantB", insertAs, [email, "Ann"]);
    expect(await count(email)).toBe(2);
  });

  it("with another address is another lead, even with the same phone number", async () => {
    const { email, phone } = fresh();
    const other = fresh().email;
    await insertLead(db, { email, phone });
    await insertLead(db, { email: other, phone });
    expect([await count(email), await count(other)]).toEqual([1, 1]);
  });

  it("is always a new lead without an address", async () => {
    const before = await db.query("select from revenue_leads");
    for (const email of ["n/a", "n/a", "-", "", null]) await insertLead(db, { email, contact_name: "Nobody" });
    expect(await db.query("select from revenue_leads")).toHaveLength(before.length + 5);
  });
});

describe("a row with both addresses", () => {
  it("merges the two leads that each had one, with all rows that refer to them", async () => {
    const { email, phone } = fresh();
    const byMail = await insertLead(db, { email });
    const byPhone = await insertLead(db, { phone, contact_name: "Ann", stage: "contacted" });
    await db.as("tenantA", "select brainops.record_reply($1, 'sms', 'hello')", [byPhone]);
    const both = await insertLead(db, { email, phone });
    for (const id of [byMail, byPhone, both]) {
      expect(await leadOf(db, id)).toMatchObject({ id: byMail, email, phone_e164: phone, stage: "contacted" });
    }
    expect(
      await db.query("select from lead_events where lead_id = $1 and event = 'sms_replied'", [byMail]),
    ).toHaveLength(1);
  });
});

describe("another lead's address", () => {
  it("cannot be taken by an update; merge_leads merges the two", async () => {
    const [one, other] = [fresh(), fresh()];
    const first = await insertLead(db, { email: one.email, score: 20 });
    const second = await insertLead(db, { email: other.email, score: 90 });
    const taking = db.as("tenantA", "update revenue_leads set email = $2 where id = $1", [second, one.email]);
    const refused = await refusal(taking);
    expect(refused).toMatchObject({ code: "OP012", column: "email" });
    expect(refused.hint).toContain(`brainops.merge_leads('${first}', '${second}')`);
    const merge = () => db.as("tenantA", "select brainops.merge_leads($1, $2) as id", [first, second]);
    expect(await merge()).toEqual([{ id: first }]);
    expect(await merge()).toEqual([{ id: first }]);
    expect((await scored(db, second)).score).toBe(90);
    // The address that the merge dropped still identifies the person.
    expect((await leadOf(db, await insertLead(db, { email: other.email }))).id).toBe(first);
  });

  it("is free again once its lead has another, or is deleted", async () => {
    const [one, other] = [fresh(), fresh()];
    const first = await insertLead(db, { email: one.email });
    await db.as("tenantA", "update revenue_leads set email = $2 where id = $1", [first, other.email]);
    const second = await insertLead(db, { email: one.email });
    expect((await leadOf(db, second)).id).toBe(second);
    await db.as("tenantA", deleting("delete from revenue_leads where id = $1"), [second]);
    const third = await insertLead(db, { email: one.email });
    expect((await leadOf(db, third)).id).toBe(third);
  });

  it("cannot be merged across tenants", async () => {
    const mine = await insertLead(db, { email: fresh().email });
    const [theirs] = await db.as<{ id: string }>("tenantB", insertAs, [fresh().email, "Bob"]);
    const merge = "select brainops.merge_leads($1, $2)";
    expect((await refusal(db.as("tenantA", merge, [mine, theirs?.id]))).code).toBe("OP009");
    expect((await refusal(db.as("tenantB", merge, [mine, theirs?.id]))).code).toBe("OP009");
    expect((await refusal(db.as("admin", merge, [mine, theirs?.id]))).code).toBe("OP012");
  });
});

describe("a merge", () => {
  it("moves the rows of every table that refers to leads", async () => {
    const tables = await referring();
    await seedBothTenants(db);
    const into = await insertLead(db, { email: fresh().email });
    const from = await insertLead(db, { email: fresh().email });
    const client = await db.connect("superuser");
    await client.query("set session_replication_role = replica");
    // The seed is a client's own definition, without a lead; an enrolment has a campaign.
    await client.query(
      `update ai_nurture_campaigns as n set lead_id = $1, campaign_id = c.id, version = 1 from campaigns as c
       where n.tenant_id = $2 and n.lead_id is null and c.tenant_id = $2 and c.code = 'welcome'`,
      [from, db.tenantA],
    );
    const moved: Record<string, number> = {};
    for (const { table, column } of tables) {
      const { rowCount } = await client.query(
        `update ${table} set ${column} = $1
         where id = (select id from ${table} where tenant_id = $2 order by ${column} = $1 desc nulls last, id limit 1)`,
        [from, db.tenantA],
      );
      moved[table] = rowCount ?? 0;
    }
    expect(moved).toEqual(Object.fromEntries(tables.map(({ table }) => [table, 1])));
    await db.as("tenantA", "select brainops.merge_leads($1, $2)", [into, from]);
    for (const { table, column } of tables) {
      const rows = await db.query(`select from ${table} where ${column} = $1`, [into]);
      expect([table, rows.length > 0]).toEqual([table, true]);
    }
    expect(await db.query("select from revenue_leads where id = $1", [from])).toEqual([]);
  });

  it("is followed in every table that refers to leads: an alias stands for the lead", async () => {
    const covered = await db.query<{ table: string }>(
      `select distinct tgrelid::regclass::text as table from pg_trigger
       where tgfoid = 'brainops_internal.resolve_lead_id()'::regprocedure and tgname = 'a0_resolve_lead_id'`,
    );
    const without = new Set((await referring()).map(({ table }) => table)).difference(
      new Set(covered.map(({ table }) => table)),
    );
    // Aliases are written by the engine only.
    expect(without).toEqual(new Set(["revenue_lead_aliases"]));
  });

  it("keeps rows that cannot be moved in its event, with their dependent rows", async () => {
    const into = await insertLead(db, { email: fresh().email, stage: "won" });
    const from = await insertLead(db, { email: fresh().email, stage: "won" });
    const steps = await db.query("select id from ai_onboarding_steps");
    expect(steps.length).toBeGreaterThan(2);
    await db.as("tenantA", "select brainops.merge_leads($1, $2)", [into, from]);
    expect(await db.query("select from ai_onboarding_workflows where lead_id = $1", [into])).toHaveLength(1);
    const [event] = await db.query<{ kept: { table: string; rows?: { table: string }[] }[] }>(
      "select metadata -> 'kept' as kept from lead_events where lead_id = $1 and event = 'merged'",
      [into],
    );
    const workflow = event?.kept.find(({ table }) => table === "public.ai_onboarding_workflows");
    expect(workflow?.rows?.filter(({ table }) => table === "public.ai_onboarding_steps").length).toBeGreaterThan(1);
    expect(await db.query("select id from ai_onboarding_steps")).toHaveLength(
      steps.length - (workflow?.rows?.length ?? 0),
    );
  });
});

/** Tables with a foreign key to leads, and its column. */
function referring(): Promise<{ table: string; column: string }[]> {
  return db.query(
    `select c.conrelid::regclass::text as table, a.attname as column from pg_constraint as c
     inner join pg_attribute as f on f.attrelid = c.confrelid and f.attname = 'id'
     inner join pg_attribute as a on a.attrelid = c.conrelid and a.attnum = c.conkey[array_position(c.confkey, f.attnum)]
     where c.confrelid = 'revenue_leads'::regclass and c.contype = 'f' order by 1`,
  );
}

describe.skipIf(!isServer)("at the same moment (needs server processes)", () => {
  const waiting =
    "select count(*) = 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()";

  it.each(["commit", "rollback"])("the second waits for the first, which ends with %s", async (end) => {
    const { email } = fresh();
    const [a, b] = [await db.connect("tenantA"), await db.connect("tenantA")];
    await a.query("begin");
    const first = (await a.query<{ id: string }>(insertAs, [email, "One"])).rows[0]?.id ?? "";
    const second = b.query<{ id: string }>(insertAs, [email, "Two"]);
    await db.until(waiting);
    await a.query(end);
    const id = (await second).rows[0]?.id ?? "";
    expect(await count(email)).toBe(1);
    const lead = await leadOf(db, id);
    expect(lead.id).toBe(end === "commit" ? first : id);
    expect(lead.metadata["merged"] ?? []).toHaveLength(end === "commit" ? 1 : 0);
  });

  it("eight clients with one person's addresses create one lead", async () => {
    const { email, phone } = fresh();
    const rows = [{ email }, { phone }, { email, phone }, { email: email.toUpperCase(), company_name: "Corp" }];
    const ids = await Promise.all(
      [...rows, ...rows].map((columns) => retried(() => insertLead(db, { contact_name: "Ann", ...columns }))),
    );
    const leads = await Promise.all(ids.map((id) => leadOf(db, id)));
    expect(new Set(leads.map(({ id }) => id)).size).toBe(1);
    expect(leads[0]).toMatchObject({ phone_e164: phone });
  });

  it("a row that refers to a lead during its merge refers to the remaining lead afterwards", async () => {
    const into = await insertLead(db, { email: fresh().email });
    const from = await insertLead(db, { email: fresh().email });
    const merging = await db.connect("tenantA");
    await merging.query("begin");
    await merging.query("select brainops.merge_leads($1, $2)", [into, from]);
    const mail =
      "insert into ai_email_queue (recipient, subject, body, scheduled_for) values ($1, 's', 'b', '2100-01-01Z') returning lead_id";
    const event = "insert into lead_events (lead_id, event) values ($1, 'page_seen') returning lead_id";
    const late = Promise.all([db.as("tenantA", mail, [from]), db.as("tenantA", event, [from])]);
    await db.until(waiting.replace("= 1", "= 2"));
    await merging.query("commit");
    expect(await late).toEqual([[{ lead_id: into }], [{ lead_id: into }]]);
  });
});

/** Retries after a deadlock, as clients do. */
async function retried<T>(run: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await run();
    } catch (error) {
      if ((error as { code?: string }).code !== "40P01") throw error;
    }
  }
}

describe("any people, in any order", () => {
  it("become one lead each, with all their values and events", async () => {
    // A person has one address and one number; a row has one of them or both.
    const row = fc.record({ person: fc.nat(3), has: fc.constantFrom("email", "phone", "both"), upper: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(row, { minLength: 1, maxLength: 10 }), async (rows) => {
        const people = [fresh(), fresh(), fresh(), fresh()];
        const ids: string[] = [];
        for (const [index, { person, has, upper }] of rows.entries()) {
          const { email, phone } = people[person] ?? fresh();
          const id = await insertLead(db, {
            ...(has !== "phone" && { email: upper ? email.toUpperCase() : email }),
            ...(has !== "email" && { phone }),
            metadata: { [`row_${index}`]: index },
          });
          await db.as("tenantA", "insert into lead_events (lead_id, event, source_key) values ($1, 'page_seen', $2)", [
            id,
            String(index),
          ]);
          ids.push(id);
        }
        for (const [person, { email, phone }] of people.entries()) {
          const own = rows.flatMap((one, index) => (one.person === person ? [index] : []));
          const ways = new Set(own.map((index) => rows[index]?.has));
          // Two leads if no row has both the address and the number.
          const expected = own.length === 0 ? 0 : !ways.has("both") && ways.size === 2 ? 2 : 1;
          const leads = new Set(
            (await Promise.all(own.map((index) => leadOf(db, ids[index] ?? "")))).map(({ id }) => id),
          );
          expect(leads.size).toBe(expected);
          const found = await db.query<{ id: string; metadata: Record<string, unknown> }>(
            "select id, metadata from revenue_leads where email_key = $1 or phone_e164 = $2",
            [email, phone],
          );
          expect(new Set(found.map(({ id }) => id))).toEqual(leads);
          const kept = found.flatMap(({ metadata }) => Object.keys(metadata).filter((key) => key.startsWith("row_")));
          expect(kept.toSorted()).toEqual(own.map((index) => `row_${index}`).toSorted());
          const seen = await db.query<{ key: string }>(
            "select source_key as key from lead_events where event = 'page_seen' and lead_id = any ($1)",
            [[...leads]],
          );
          expect(seen.map(({ key }) => Number(key)).toSorted((a, b) => a - b)).toEqual(own);
        }
      }),
      { numRuns: 20 },
    );
  });
});
