// Scores: how much each reason counts, what decays, and that the reasons always add up to the score.
import fc from "fast-check";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import { startTestWorker } from "../support/worker.ts";
import { insertLead, leadOf, reasons, scored } from "./support.ts";

let db: TestDatabase;
let n = 0;
const address = (domain = "company.example"): string => `person${++n}@${domain}`;

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db?.close());
afterEach(() => db.setClock("0"));

const event = (id: string, name: string, metadata: object = {}, key: string | null = null) =>
  db.query("select brainops_internal.record_lead_event($1, $2, $3, 'email', null, $4, $5)", [
    db.tenantA,
    id,
    name,
    key,
    JSON.stringify(metadata),
  ]);

describe("the columns of a lead", () => {
  it.for([
    [{}, 30 + 10 + 20],
    [{ domain: "gmail.com" }, 30 + 10],
    [{ domain: "yahoo.co.uk" }, 30 + 10],
    [{ phone: "+1 303 555 0123" }, 30 + 10 + 20 + 15],
    [{ company_name: "Corp" }, 30 + 10 + 20 + 10],
    [{ domain: "gmail.com", metadata: { roof: "flat", floors: 2, empty: "" } }, 30 + 10 + 6],
    [{ domain: "gmail.com", metadata: { a: 1, b: 2, c: 3, d: 4, e: 5, f: 6, g: 7 } }, 30 + 10 + 15],
    [{ domain: "gmail.com", metadata: { budget: "high" } }, 30 + 10 + 20],
    [{ domain: "gmail.com", metadata: { budget: 10_000.5 } }, 30 + 10 + 20],
    [{ domain: "gmail.com", metadata: { budget: "$10,000" } }, 30 + 10 + 10],
    [{ domain: "gmail.com", metadata: { budget: 5000 } }, 30 + 10],
    [{ domain: "gmail.com", metadata: { decision_maker: "yes" } }, 30 + 10 + 15],
    [{ domain: "gmail.com", metadata: { decision_maker: "no" } }, 30 + 10],
    [{ domain: "gmail.com", metadata: { timeline: "This week" } }, 30 + 10 + 20],
    [{ domain: "gmail.com", metadata: { timeline: "this_month" } }, 30 + 10 + 10],
    [{ domain: "gmail.com", metadata: { property_owner: true, budget_approved: "true" } }, 30 + 10 + 10 + 15],
  ] as const)("%j are worth %i", async ([given, points]) => {
    const { domain, ...columns } = { domain: "company.example", ...given };
    const id = await insertLead(db, { email: address(domain), ...columns });
    const lead = await scored(db, id);
    expect(lead.score).toBe(points);
    expect(Object.values(await reasons(db, id)).reduce((sum, value) => sum + value, 0)).toBe(points);
  });

  it("never exceed 100, and lose points that no longer apply", async () => {
    const metadata = { budget: "high", decision_maker: true, timeline: "now", property_owner: true };
    const id = await insertLead(db, { email: address(), phone: "303 555 0199", company_name: "Corp", metadata });
    expect((await scored(db, id)).score).toBe(100);
    await db.as("tenantA", "update revenue_leads set company_name = null, metadata = '{}' where id = $1", [id]);
    expect((await scored(db, id)).score).toBe(75);
    expect(await reasons(db, id)).toMatchObject({ company_given: 0, budget_high: 0, email_given: 10 });
    const before = await db.query("select id from lead_score_events where lead_id = $1", [id]);
    await scored(db, id);
    expect(await db.query("select id from lead_score_events where lead_id = $1", [id])).toHaveLength(before.length);
  });

  it("set the tier at 40, 60 and 80", async () => {
    const tiers: Record<number, string> = {};
    for (const score of [0, 39, 40, 59, 60, 79, 80, 100]) {
      tiers[score] = (await leadOf(db, await insertLead(db, { contact_name: "x", score }))).tier;
    }
    expect(tiers).toEqual({
      0: "cold",
      39: "cold",
      40: "cool",
      59: "cool",
      60: "warm",
      79: "warm",
      80: "hot",
      100: "hot",
    });
  });

  it("qualify a new lead from 70 on, and no other", async () => {
    const good = { phone: "+13035550144", company_name: "Corp" };
    const fresh = await insertLead(db, { email: address(), ...good });
    const lost = await insertLead(db, { email: address(), ...good, stage: "lost" });
    const below = await insertLead(db, { email: address() });
    expect((await scored(db, fresh)).stage).toBe("qualified");
    expect((await scored(db, lost)).stage).toBe("lost");
    expect(await scored(db, below)).toMatchObject({ stage: "new", score: 60 });
  });
});

describe("what people do", () => {
  it("counts the first open and the first click of each mail", async () => {
    const id = await insertLead(db, { email: address("gmail.com") });
    for (const mail of ["m1", "m1", "m2"]) {
      await event(id, "email_opened", { email_id: mail });
      await event(id, "email_clicked", { email_id: mail });
    }
    expect((await scored(db, id)).score).toBe(40 + 2 * 2 + 2 * 6);
  });

  it("decays by half each half-life, and the nightly run updates the lead", async () => {
    const id = await insertLead(db, { email: address("gmail.com") });
    await db.as("tenantA", "select brainops.record_reply($1)", [id]);
    expect((await scored(db, id)).score).toBe(55);
    const night = () => db.as("worker", "select * from brainops_internal.rescore_stale()");
    for (const [days, score] of [
      [30, 48],
      [60, 44],
      [300, 40],
    ]) {
      // One hour early: at exactly half of 15 points a millisecond would decide the rounding.
      await db.setClock(`${days} days -1 hour`);
      await night();
      expect([days, (await leadOf(db, id)).score]).toEqual([days, score]);
    }
  });

  it("is below zero for a complaint, which makes a lead cold", async () => {
    const id = await insertLead(db, { email: address("gmail.com") });
    await event(id, "email_complained");
    await event(id, "email_unsubscribed");
    expect(await scored(db, id)).toMatchObject({ score: 0, tier: "cold" });
  });

  it("is recorded once, however often it arrives", async () => {
    const id = await insertLead(db, { email: address("gmail.com") });
    for (let i = 0; i < 3; i++) await event(id, "meeting_booked", {}, "calendar-7");
    expect((await scored(db, id)).score).toBe(60);
  });

  it("gives the same score for any order of events and computations", async () => {
    const names = fc.constantFrom(
      "email_opened",
      "email_clicked",
      "email_replied",
      "form_submitted",
      "opted_out",
      "page_seen",
    );
    const action = fc.record({ name: names, mail: fc.constantFrom("m1", "m2"), day: fc.integer({ min: 0, max: 60 }) });
    const order = fc.uniqueArray(action, { maxLength: 8, selector: ({ name, mail, day }) => `${name}${mail}${day}` });
    const run = async (events: readonly { name: string; mail: string; day: number }[], scoreAfter: number) => {
      const id = await insertLead(db, { email: address("gmail.com") });
      for (const [index, { name, mail, day }] of events.entries()) {
        await db.query(
          `insert into lead_events (tenant_id, lead_id, event, occurred_at, source_key, metadata)
           values ($1, $2, $3, timestamptz '2026-01-01Z' + make_interval(days => $4), $5, $6)`,
          [db.tenantA, id, name, day, `${mail}-${day}`, { email_id: mail }],
        );
        if (index === scoreAfter) await scored(db, id);
      }
      return (await scored(db, id)).score;
    };
    await db.query(
      `create or replace function brainops.now() returns timestamptz language sql stable parallel safe
       as $$ select timestamptz '2026-03-15Z' $$`,
    );
    await fc.assert(
      fc.asyncProperty(order, fc.nat(8), fc.nat(8), async (events, one, other) => {
        expect(await run(events, one)).toBe(await run(events.toReversed(), other));
      }),
      { numRuns: 25 },
    );
  });
});

describe("a score or points from clients", () => {
  it("is kept, and later events add to it", async () => {
    const id = await insertLead(db, { email: address("gmail.com"), score: 12 });
    expect((await scored(db, id)).score).toBe(12);
    expect(await reasons(db, id)).toMatchObject({ set_by_client: -28 });
    await db.as("tenantA", "select brainops.record_reply($1)", [id]);
    expect((await scored(db, id)).score).toBe(27);
    await db.as("tenantA", "update revenue_leads set score = 90 where id = $1", [id]);
    expect((await scored(db, id)).score).toBe(90);
  });

  it("is a fraction below 1, and refused outside 0 to 100", async () => {
    expect((await leadOf(db, await insertLead(db, { contact_name: "x", score: 0.85 }))).score).toBe(85);
    expect((await leadOf(db, await insertLead(db, { contact_name: "x", score: 1 }))).score).toBe(1);
    for (const score of [-1, 101, 7000]) {
      expect((await refusal(insertLead(db, { contact_name: "x", score }))).code).toBe("23514");
    }
  });

  it("may be custom points, with a half-life", async () => {
    const id = await insertLead(db, { email: address("gmail.com") });
    await scored(db, id);
    const points =
      "insert into lead_score_events (lead_id, reason, points, half_life) values ($1, 'visited_fair', 20, '10 days')";
    await db.as("tenantA", points, [id]);
    expect((await scored(db, id)).score).toBe(60);
    await db.setClock("10 days");
    expect((await scored(db, id)).score).toBe(50);
  });

  it("is never deleted: both logs are append-only, for every seat", async () => {
    const id = await insertLead(db, { email: address() });
    await scored(db, id);
    for (const seat of ["tenantA", "service", "admin"] as const) {
      for (const table of ["lead_events", "lead_score_events"]) {
        expect((await refusal(db.as(seat, `delete from ${table}`))).code).toBe("42501");
        expect((await refusal(db.as(seat, `update ${table} set occurred_at = now()`))).code).toBe("42501");
      }
    }
    expect((await refusal(db.as("tenantA", "select brainops_internal.score_leads(array[$1::uuid])", [id]))).code).toBe(
      "42501",
    );
  });
});

describe("the job", () => {
  it("scores inserted leads, and again when something changes that counts", async () => {
    const worker = await startTestWorker(db, null);
    try {
      const id = await insertLead(db, { email: address("gmail.com"), phone: "+13035550150" });
      const settled = "select score = $2 and rescore_requested_at is null as done from revenue_leads where id = $1";
      await db.until(settled, [id, 55]);
      await db.as("tenantA", "select brainops.record_reply($1, 'sms', 'call me')", [id]);
      await db.until(settled, [id, 70]);
      expect((await leadOf(db, id)).stage).toBe("qualified");
      await db.as("tenantA", "update revenue_leads set company_name = 'Corp' where id = $1", [id]);
      await db.until(settled, [id, 80]);
    } finally {
      await worker.stop();
    }
  });

  it.skipIf(!isServer)(
    "counts an event that arrives while the score is being computed (needs server processes)",
    async () => {
      const id = await insertLead(db, { email: address("gmail.com") });
      await scored(db, id);
      const scorer = await db.connect("worker");
      await scorer.query("begin");
      await scorer.query("select brainops_internal.score_leads(array[$1::uuid])", [id]);
      const replied = db.as("tenantA", "select brainops.record_reply($1)", [id]);
      await db.until(
        "select count(*) > 0 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
      );
      await scorer.query("commit");
      await replied;
      expect(
        await db.query("select rescore_requested_at is not null as requested from revenue_leads where id = $1", [id]),
      ).toEqual([{ requested: true }]);
      expect((await scored(db, id)).score).toBe(55);
    },
  );
});
