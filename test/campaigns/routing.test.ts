// campaign_rules: which leads are enrolled automatically, and which campaigns they leave.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { refusal } from "../support/refusal.ts";
import { enrol, launch, makeLaunchable, newLead, touchesOf, workOff } from "./support.ts";

let db: TestDatabase;
let tenant: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  await setNow(db, new Date("2026-03-02T16:00:00Z"));
  tenant = await db.connect("tenantA");
  for (const code of ["slow", "fast", "third"]) {
    await launch(tenant, code, [
      { step_number: 1, kind: "send_email", template: "mail" },
      { step_number: 2, kind: "wait", delay: "30 days" },
    ]);
  }
});
afterEach(async () => {
  await tenant.query(deleting("delete from campaign_rules"));
  await tenant.query("update campaigns set status = 'active' where code = any ('{slow,fast,third}')");
});
afterAll(() => db.close());

const addRule = (code: string, columns: Readonly<Record<string, unknown>>): Promise<unknown> =>
  tenant.query(
    `insert into campaign_rules (campaign_id, name, ${Object.keys(columns).join(", ")})
     select id, code || ' rule', ${Object.keys(columns)
       .map((_, index) => `$${index + 2}`)
       .join(", ")} from campaigns where code = $1`,
    [code, ...Object.values(columns)],
  );

const enrolmentsOf = async (lead: string): Promise<string[]> =>
  (
    await tenant.query<{ state: string }>(
      "select concat_ws(' ', campaign_type, status, exit_reason) as state from ai_nurture_campaigns where lead_id = $1 order by 1",
      [lead],
    )
  ).rows.map((row) => row.state);

const computeScore = (lead: string): Promise<unknown> =>
  db.query("select brainops_internal.score_leads(array[$1::uuid])", [lead]);
const change = (lead: string, set: string): Promise<unknown> =>
  tenant.query(`update revenue_leads set ${set} where id = $1`, [lead]);

describe("a rule on tiers", () => {
  it("enrols a lead once its score is computed, not before", async () => {
    await addRule("slow", { tiers: "{warm,cool,cold}" });
    const lead = await newLead(tenant);
    expect(await enrolmentsOf(lead)).toEqual([]);
    await computeScore(lead);
    expect(await enrolmentsOf(lead)).toEqual(["slow active"]);
  });

  it("enrols a lead whose tier changes, and exits the campaigns that it names and no others", async () => {
    await addRule("fast", { tiers: "{hot}", leaves: "{slow}" });
    const lead = await newLead(tenant);
    await computeScore(lead);
    const slow = await enrol(tenant, lead, "slow");
    await enrol(tenant, lead, "third");
    await change(lead, "score = 70");
    expect(await enrolmentsOf(lead)).toEqual(["slow active", "third active"]);
    await change(lead, "score = 85");
    expect(await enrolmentsOf(lead)).toEqual(["fast active", "slow exited routed to fast", "third active"]);
    expect((await touchesOf(db, slow)).map((touch) => touch.status)).toEqual(["skipped"]);
    // The lead is hot already: no rule newly matches.
    await change(lead, "score = 95");
    await change(lead, "score = 10");
    await change(lead, "score = 90");
    expect(await enrolmentsOf(lead)).toEqual(["fast active", "slow exited routed to fast", "third active"]);
  });

  it("enrols no lead that is won or lost, unless it names that stage", async () => {
    await addRule("fast", { sources: "{fair}" });
    await addRule("slow", { stages: "{won}" });
    await tenant.query("update campaigns set exit_on = '{lost}' where code = 'slow'");
    const lead = await newLead(tenant, { stage: "won", source: "fair" });
    expect(await enrolmentsOf(lead)).toEqual(["slow active"]);
  });
});

describe("a rule on sources, stages or a condition", () => {
  it("enrols a lead that matches when it is inserted or later", async () => {
    await addRule("fast", { sources: "{fair}", stages: "{contacted}" });
    const lead = await newLead(tenant, { source: "fair" });
    expect(await enrolmentsOf(lead)).toEqual([]);
    await change(lead, "stage = 'contacted'");
    expect(await enrolmentsOf(lead)).toEqual(["fast active"]);
    expect(await enrolmentsOf(await newLead(tenant, { source: "fair", stage: "contacted" }))).toEqual(["fast active"]);
    const late = await newLead(tenant, { stage: "contacted" });
    await change(late, "source = 'fair'");
    expect(await enrolmentsOf(late)).toEqual(["fast active"]);
  });

  it.each([
    ["value_estimate", ">=", 5000, "value_estimate = 7000"],
    ["score", ">", 90, "score = 95"],
    ["company_name", "exists", true, "company_name = 'Acme'"],
    ["metadata.roof", "=", "flat", `metadata = metadata || '{"roof": "flat"}'`],
  ])("%s %s %s applies as soon as it becomes true", async (field, op, value, set) => {
    await addRule("fast", { condition: JSON.stringify({ field, op, value }) });
    const lead = await newLead(tenant);
    await computeScore(lead);
    expect(await enrolmentsOf(lead)).toEqual([]);
    await change(lead, set);
    expect(await enrolmentsOf(lead)).toEqual(["fast active"]);
  });
});

describe("a condition that cannot be evaluated", () => {
  const refused: readonly [Record<string, unknown>, string][] = [
    [
      { event: "email_clicked", within: "soon" },
      "within 'soon' is not a positive interval of at most 100 years, such as 7 days",
    ],
    [{ event: "email_clicked", within: "200000 years" }, "within '200000 years' is not a positive interval"],
    [{ all: "x" }, 'all "x" is not a list of one or more conditions'],
    [{ field: "email", op: "exists", value: "yes" }, 'value "yes" is neither true nor false, which op exists requires'],
  ];

  it.each(refused)("is refused, with the name of its rule: %j", async (condition, problem) => {
    const { code, message } = await refusal(addRule("fast", { condition: JSON.stringify(condition) }));
    expect([code, message]).toEqual([
      "OP022",
      expect.stringContaining(`the condition of rule 'fast rule' is not valid: ${problem}`),
    ]);
    await addRule("fast", { sources: "{fair}" });
    const mistyped = tenant.query("update campaign_rules set condition = $1", [condition]);
    expect((await refusal(mistyped)).code).toBe("OP022");
  });

  /** Stores it unchecked, as releases before the check did. */
  const store = async (condition: unknown): Promise<void> => {
    await addRule("fast", { condition: JSON.stringify({ field: "source", op: "=", value: "fair" }) });
    await db.query("alter table campaign_rules disable trigger b1_before_campaign_rule");
    await db.query("update campaign_rules set condition = $1 where name = 'fast rule'", [JSON.stringify(condition)]);
    await db.query("alter table campaign_rules enable trigger b1_before_campaign_rule");
  };
  const notifications = async (): Promise<{ subject: string; body: string }[]> =>
    (await tenant.query<{ subject: string; body: string }>("select subject, body from tenant_notifications")).rows;

  it.each(refused)("and is already stored enrols no lead, and is reported once: %j", async (condition, problem) => {
    await db.query("delete from tenant_notifications");
    await store({ not: condition });
    await addRule("slow", { sources: "{fair}" });
    const leads = [await newLead(tenant, { source: "fair" }), await newLead(tenant)];
    await change(leads[1] ?? "", "source = 'fair'");
    for (const lead of leads) expect(await enrolmentsOf(lead)).toEqual(["slow active"]);
    expect(await notifications()).toEqual([
      { subject: "Campaign rule 'fast rule' cannot be evaluated", body: expect.stringContaining(problem) },
    ]);
    await tenant.query("update campaign_rules set active = false where name = 'fast rule'");
    const again = tenant.query("update campaign_rules set active = true where name = 'fast rule'");
    expect((await refusal(again)).code).toBe("OP022");
  });

  it("does not prevent nightly scoring of any lead, of its tenant or of another", async () => {
    await db.query("delete from tenant_notifications");
    await store({ event: "email_clicked", within: "soon" });
    const others = await db.connect("tenantB");
    const leads = [await newLead(tenant), await newLead(others)];
    await db.query(
      "update revenue_leads set rescore_requested_at = brainops.now() - interval '1 day' where id = any ($1)",
      [leads],
    );
    await db.as("worker", "select * from brainops_internal.rescore_stale()");
    expect(
      await db.query("select id from revenue_leads where id = any ($1) and rescore_requested_at is null", [leads]),
    ).toHaveLength(2);
    expect(await notifications()).toHaveLength(1);
  });
});

describe("no lead is enrolled", () => {
  it.each(["paused", "archived"])("in a campaign that is %s", async (status) => {
    await addRule("third", { sources: "{fair}", leaves: "{slow}" });
    await tenant.query("update campaigns set status = $1 where code = 'third'", [status]);
    const lead = await newLead(tenant);
    await enrol(tenant, lead, "slow");
    await change(lead, "source = 'fair'");
    expect(await enrolmentsOf(lead)).toEqual(["slow active"]);
  });

  it("by a rule that is switched off, or by another tenant's", async () => {
    await addRule("fast", { sources: "{fair}", active: false });
    const others = await db.connect("tenantB");
    await launch(others, "theirs", [{ step_number: 1, kind: "wait", delay: "1 day" }]);
    await others.query(
      "insert into campaign_rules (campaign_id, name, sources) select id, 'theirs', '{fair}' from campaigns where code = 'theirs'",
    );
    expect(await enrolmentsOf(await newLead(tenant, { source: "fair" }))).toEqual([]);
  });
});

describe("leads that are merged", () => {
  it("continue where the one was, and do not start again", async () => {
    await addRule("fast", { condition: JSON.stringify({ field: "company_name", op: "=", value: "Acme" }) });
    const worker = await db.connect("worker");
    const [into, from] = [await newLead(tenant), await newLead(tenant, { company_name: "Acme" })];
    const { rows } = await tenant.query<{ id: string }>("select id from ai_nurture_campaigns where lead_id = $1", [
      from,
    ]);
    const id = rows[0]?.id ?? "";
    await workOff(worker, db.tenantA, id);
    // The remaining lead gets the other's company, which matches the rule.
    await tenant.query("select brainops.merge_leads($1, $2)", [into, from]);
    expect(await enrolmentsOf(into)).toEqual(["fast active"]);
    expect((await touchesOf(db, id)).map((touch) => [touch.step_key, touch.status])).toEqual([
      ["1", "completed"],
      ["2", "pending"],
    ]);
  });

  it("exit the campaigns of the one if the other is won", async () => {
    const [into, from] = [await newLead(tenant, { stage: "won" }), await newLead(tenant)];
    await enrol(tenant, from, "fast");
    await tenant.query("select brainops.merge_leads($1, $2)", [into, from]);
    expect(await enrolmentsOf(into)).toEqual(["fast exited already won"]);
  });

  it("can be enrolled by their old id", async () => {
    const [into, from] = [await newLead(tenant), await newLead(tenant)];
    await tenant.query("select brainops.merge_leads($1, $2)", [into, from]);
    await enrol(tenant, from, "third");
    expect(await enrolmentsOf(into)).toEqual(["third active"]);
  });
});
