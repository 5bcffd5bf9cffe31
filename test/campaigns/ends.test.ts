// Goals, re-entry, and leads that are not enrolled at all.
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";
import {
  claimTouches,
  enrol,
  enrolmentOf,
  launch,
  makeLaunchable,
  messagesOf,
  newLead,
  perform,
  settle,
  touchesOf,
  workOff,
} from "./support.ts";

const START = new Date("2026-03-02T16:00:00Z");
const DAY = 86_400_000;

let db: TestDatabase;
let tenant: pg.Client;
let worker: pg.Client;

const two = [
  { step_number: 1, kind: "send_email", template: "mail" },
  { step_number: 2, kind: "send_email", template: "mail", delay: "1 day" },
] as const;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  tenant = await db.connect("tenantA");
  worker = await db.connect("worker");
  await setNow(db, START);
  await launch(tenant, "once", two);
  await launch(tenant, "again", two, { reentry: "after_exit" });
  await launch(tenant, "meeting", two, { goal_event: "meeting_booked" });
  await launch(tenant, "sale", two, { goal_event: "won", exit_on: "{lost,meeting_booked:phone}" });
});
beforeEach(() => setNow(db, START));
afterAll(() => db.close());

const happens = (lead: string, event: string, channel: string | null = null): Promise<unknown> =>
  tenant.query("insert into lead_events (lead_id, event, channel) values ($1, $2, $3)", [lead, event, channel]);
const win = (lead: string): Promise<unknown> =>
  tenant.query("update revenue_leads set stage = 'won' where id = $1", [lead]);

describe("a goal", () => {
  it("that is the tenant's own event ends the enrolment, and its queued messages are skipped", async () => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "meeting");
    await workOff(worker, db.tenantA, id);
    await happens(lead, "visited");
    expect((await enrolmentOf(db, id)).status).toBe("active");
    await happens(lead, "meeting_booked");
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: "goal: meeting_booked" });
    expect(await messagesOf(db, id)).toMatchObject([
      { status: "skipped", reason: "left the campaign: exited: goal: meeting_booked" },
    ]);
    expect((await touchesOf(db, id)).map((touch) => touch.status)).toEqual(["completed", "skipped"]);
  });

  it("won is reached by the stage, and a lead that is already won exits at once", async () => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "sale");
    await win(lead);
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: "goal: won" });
    const late = await enrol(tenant, await newLead(tenant, { stage: "won" }), "sale");
    expect(await enrolmentOf(db, late)).toMatchObject({ status: "exited", exit_reason: "already won" });
    expect(await touchesOf(db, late)).toEqual([]);
  });

  it("of one enrolment does not affect the lead's others", async () => {
    const lead = await newLead(tenant);
    const [meeting, other] = [await enrol(tenant, lead, "meeting"), await enrol(tenant, lead, "once")];
    await happens(lead, "meeting_booked");
    expect([(await enrolmentOf(db, meeting)).status, (await enrolmentOf(db, other)).status]).toEqual([
      "exited",
      "active",
    ]);
  });
});

describe("an exit event with a channel", () => {
  it("ends the enrolment on that channel only", async () => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "sale");
    await happens(lead, "meeting_booked", "email");
    expect((await enrolmentOf(db, id)).status).toBe("active");
    await happens(lead, "meeting_booked", "phone");
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: "meeting_booked" });
  });
});

describe("a complaint about a mail", () => {
  it("ends the enrolment, and is recorded for its touch", async () => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "once");
    await workOff(worker, db.tenantA, id);
    await happens(lead, "email_complained", "email");
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: "email_complained" });
    const { rows } = await tenant.query(
      "select t.step_key, e.event from campaign_touch_events as e inner join ai_campaign_touches as t on t.id = e.touch_id where t.campaign_id = $1 order by e.event",
      [id],
    );
    expect(rows).toEqual([
      { step_key: "1", event: "complained" },
      { step_key: "1", event: "skipped" },
    ]);
  });
});

describe("a lead that was in a campaign", () => {
  it("does not re-enter if the campaign allows no re-entry", async () => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "once");
    await tenant.query("select brainops.exit_enrolment($1, 'said no')", [id]);
    expect(await enrol(tenant, lead, "once")).toBe(id);
    expect((await enrolmentOf(db, id)).status).toBe("exited");
    expect(
      (await refusal(tenant.query("update ai_nurture_campaigns set status = 'active' where id = $1", [id]))).code,
    ).toBe("OP023");
  });

  it.each(["completed", "exited", "cancelled"])(
    "re-enters after %s, from the first step, if the campaign allows it",
    async (end) => {
      const lead = await newLead(tenant);
      const first = await enrol(tenant, lead, "again");
      await workOff(worker, db.tenantA, first);
      expect(await enrol(tenant, lead, "again")).toBe(first);
      if (end === "completed") {
        await setNow(db, new Date(START.getTime() + DAY));
        await workOff(worker, db.tenantA, first);
      } else {
        await tenant.query("update ai_nurture_campaigns set status = $2 where id = $1", [first, end]);
      }
      expect((await enrolmentOf(db, first)).status).toBe(end);
      const second = await enrol(tenant, lead, "again");
      expect(second).not.toBe(first);
      await workOff(worker, db.tenantA, second);
      expect((await touchesOf(db, second)).map(({ step_key, status }) => [step_key, status])).toEqual([
        ["1", "completed"],
        ["2", "pending"],
      ]);
      const { rows } = await tenant.query(
        "select entrance, status from ai_nurture_campaigns where lead_id = $1 order by entrance",
        [lead],
      );
      expect(rows).toEqual([
        { entrance: 1, status: end },
        { entrance: 2, status: "active" },
      ]);
    },
  );

  it.skipIf(!isServer)("re-enters once if it is enrolled twice at the same moment", async () => {
    const lead = await newLead(tenant);
    await tenant.query("select brainops.exit_enrolment($1, 'said no')", [await enrol(tenant, lead, "again")]);
    const other = await db.connect("tenantA");
    const ids = await Promise.all([enrol(tenant, lead, "again"), enrol(other, lead, "again")]);
    expect(new Set(ids).size).toBe(1);
    expect(await touchesOf(db, ids[0])).toHaveLength(1);
  });

  it("that re-entered does not exit because of earlier events", async () => {
    const lead = await newLead(tenant);
    await happens(lead, "email_replied", "email");
    await setNow(db, new Date(START.getTime() + DAY));
    const id = await enrol(tenant, lead, "again");
    await tenant.query(
      "insert into lead_events (lead_id, event, channel, occurred_at) values ($1, 'email_replied', 'email', $2)",
      [lead, START],
    );
    expect((await enrolmentOf(db, id)).status).toBe("active");
  });
});

describe("two leads that were in one campaign and are merged", () => {
  /** Enrols the lead `times` times. All but the last enrolment are cancelled; the last gets `status` and is returned. */
  const enrolled = async (lead: string, code: string, status: string, times = 1): Promise<string> => {
    let id = "";
    for (let time = 1; time <= times; time += 1) {
      id = await enrol(tenant, lead, code);
      await workOff(worker, db.tenantA, id);
      const end = time < times ? "cancelled" : status;
      if (end !== "active") await tenant.query("update ai_nurture_campaigns set status = $2 where id = $1", [id, end]);
    }
    return id;
  };
  const entrancesOf = async (lead: string): Promise<unknown[]> => {
    const { rows } = await tenant.query(
      "select entrance, status from ai_nurture_campaigns where lead_id = $1 order by entrance",
      [lead],
    );
    return rows;
  };
  const merge = (into: string, from: string): Promise<unknown> =>
    tenant.query("select brainops.merge_leads($1, $2)", [into, from]);
  const ended = (entrance: number) => ({ entrance, status: "cancelled" });

  it.each([
    ["active", 1],
    ["paused", 3],
  ])("continue the enrolment that runs (%s), of either lead, after %i that have ended", async (status, times) => {
    for (const runs of ["into", "from"]) {
      const leads = { into: await newLead(tenant), from: await newLead(tenant) };
      const over = runs === "into" ? leads.from : leads.into;
      await enrolled(over, "again", "cancelled", times);
      const running = await enrolled(runs === "into" ? leads.into : leads.from, "again", status);
      await merge(leads.into, leads.from);
      const before = Array.from({ length: times }, (_, index) => ended(index + 1));
      expect(await entrancesOf(leads.into)).toEqual([...before, { entrance: times + 1, status }]);
      expect(await enrol(tenant, leads.into, "again")).toBe(running);

      await tenant.query("update ai_nurture_campaigns set status = 'active' where id = $1", [running]);
      await setNow(db, new Date(START.getTime() + 3 * DAY));
      await workOff(worker, db.tenantA, running);
      expect((await enrolmentOf(db, running)).status).toBe("completed");
      expect((await touchesOf(db, running)).map((touch) => touch.step_key)).toEqual(["1", "2"]);
      expect(await entrancesOf(leads.into)).toEqual([...before, { entrance: times + 1, status: "completed" }]);
      await enrol(tenant, leads.into, "again");
      expect(await entrancesOf(leads.into)).toHaveLength(times + 2);
      await setNow(db, START);
    }
  });

  it("continue with the step that is in flight", async () => {
    const [into, from] = [await newLead(tenant), await newLead(tenant)];
    await enrolled(into, "again", "cancelled");
    const running = await enrol(tenant, from, "again");
    const touches = await claimTouches(worker, db.tenantA, running);
    await merge(into, from);
    for (const touch of touches) {
      await settle(worker, db.tenantA, touch, await perform(worker, db.tenantA, touch));
    }
    const { rows } = await tenant.query(
      "select step_key, status, entrance from ai_campaign_touches where campaign_id = $1 order by step_number",
      [running],
    );
    expect(rows).toEqual([
      { step_key: "1", status: "completed", entrance: 2 },
      { step_key: "2", status: "pending", entrance: 2 },
    ]);
  });

  it("keep the entrances of both if neither is in it any more", async () => {
    const [into, from] = [await newLead(tenant), await newLead(tenant)];
    await enrolled(into, "again", "cancelled", 2);
    await enrolled(from, "again", "cancelled", 3);
    await merge(into, from);
    expect(await entrancesOf(into)).toEqual([1, 2, 3, 4, 5].map(ended));
  });

  it("continue the remaining lead's enrolment if both are in it", async () => {
    const [into, from] = [await newLead(tenant), await newLead(tenant)];
    const running = await enrolled(into, "again", "active");
    await enrolled(from, "again", "active", 2);
    await merge(into, from);
    expect((await entrancesOf(into)).filter((row) => (row as { status: string }).status === "active")).toHaveLength(1);
    expect((await enrolmentOf(db, running)).status).toBe("active");
  });

  it("do not continue if the campaign allows no re-entry and the remaining lead was in it", async () => {
    const [into, from] = [await newLead(tenant), await newLead(tenant)];
    await enrolled(into, "once", "cancelled");
    await enrolled(from, "once", "active");
    await merge(into, from);
    expect(await entrancesOf(into)).toEqual([ended(1)]);
  });
});
