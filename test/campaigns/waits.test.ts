// Steps that wait for an event: it arrives, it does not, and it arrives while the campaign is paused.
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import {
  enrol,
  enrolmentOf,
  launch,
  makeLaunchable,
  messagesOf,
  newLead,
  touchesOf,
  waitingFor,
  workOff,
} from "./support.ts";

const START = new Date("2026-03-02T16:00:00Z");
const HOUR = 3_600_000;
const at = (hours: number): Date => new Date(START.getTime() + hours * HOUR);

let db: TestDatabase;
let tenant: pg.Client;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  tenant = await db.connect("tenantA");
  worker = await db.connect("worker");
  await setNow(db, START);
  await launch(tenant, "waits", [
    { step_number: 1, step_key: "first", kind: "wait", delay: "1 hour" },
    {
      step_number: 2,
      step_key: "call",
      kind: "wait_for",
      delay: "48 hours",
      config: waitingFor("called_back", 3, 4),
    },
    { step_number: 3, step_key: "came", kind: "send_email", template: "mail", next_step: 5 },
    { step_number: 4, step_key: "silent", kind: "send_sms", template: "text", delay: "1 hour" },
    { step_number: 5, step_key: "end", kind: "exit", config: { reason: "done with it" } },
  ]);
});
beforeEach(() => setNow(db, START));
afterAll(() => db.close());

const happens = (lead: string, event: string, when: Date | null = null): Promise<unknown> =>
  tenant.query("insert into lead_events (lead_id, event, occurred_at) values ($1, $2, coalesce($3, brainops.now()))", [
    lead,
    event,
    when,
  ]);

/** A lead that has been waiting for the call since 17:00. */
async function waiting(): Promise<{ lead: string; id: string }> {
  await setNow(db, START);
  const lead = await newLead(tenant);
  const id = await enrol(tenant, lead, "waits");
  await setNow(db, at(1));
  await workOff(worker, db.tenantA, id);
  expect(await enrolmentOf(db, id)).toMatchObject({ next_touch_date: at(49) });
  return { lead, id };
}

const outcomesOf = async (id: string): Promise<(string | null)[]> =>
  (await touchesOf(db, id)).map((touch) => touch.outcome);

describe("a step that waits for an event", () => {
  it("continues at once with the event's step when the event arrives", async () => {
    const { lead, id } = await waiting();
    await setNow(db, at(20));
    await happens(lead, "visited");
    await workOff(worker, db.tenantA, id);
    expect((await enrolmentOf(db, id)).next_touch_date).toEqual(at(49));
    await happens(lead, "called_back");
    expect((await enrolmentOf(db, id)).next_touch_date).toEqual(at(20));
    await workOff(worker, db.tenantA, id);
    expect(await outcomesOf(id)).toEqual(["waited", "event received: called_back", "queued", "done with it"]);
    expect(await messagesOf(db, id)).toMatchObject([{ step_key: "came", channel: "email" }]);
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "completed", exit_reason: "done with it" });
  });

  it("continues with the other step when its time is up, and a later event changes nothing", async () => {
    const { lead, id } = await waiting();
    await setNow(db, at(49));
    await workOff(worker, db.tenantA, id);
    await happens(lead, "called_back");
    expect((await enrolmentOf(db, id)).next_touch_date).toEqual(at(50));
    await setNow(db, at(50));
    await workOff(worker, db.tenantA, id);
    expect(await outcomesOf(id)).toEqual(["waited", "timed out: no called_back", "queued", "done with it"]);
    expect(await messagesOf(db, id)).toMatchObject([{ step_key: "silent", channel: "sms" }]);
  });

  it("is woken once, by the lead's own event, and not by one from before it was enrolled", async () => {
    const { lead, id } = await waiting();
    await setNow(db, at(10));
    await happens(await newLead(tenant), "called_back");
    await happens(lead, "called_back", at(-24));
    expect((await touchesOf(db, id)).at(-1)).toMatchObject({ step_key: "call", woken_at: null });
    await happens(lead, "called_back");
    await setNow(db, at(11));
    await happens(lead, "called_back");
    expect((await touchesOf(db, id)).at(-1)).toMatchObject({ woken_at: at(10), due_at: at(10) });
  });

  it("keeps an event that arrives in a pause, and continues with it when the pause ends", async () => {
    const { lead, id } = await waiting();
    await tenant.query("select brainops.pause_campaign('waits')");
    await setNow(db, at(10));
    await happens(lead, "called_back");
    await workOff(worker, db.tenantA, id);
    expect(await messagesOf(db, id)).toEqual([]);
    await setNow(db, at(30));
    await tenant.query("select brainops.resume_campaign('waits')");
    await workOff(worker, db.tenantA, id);
    expect(await messagesOf(db, id)).toMatchObject([{ step_key: "came" }]);
  });
});
