// Whole campaigns with a running worker: every kind of step once, with the simulators of SendGrid and Twilio.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { startTwilioSimulator, type TwilioSimulator } from "../../src/simulator/twilio/index.ts";
import { twilioEnvironment } from "../sms/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { letMarketingGo } from "../support/marketing.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";
import { enrol, enrolmentOf, launch, makeLaunchable, messagesOf, newLead, touchesOf, waitingFor } from "./support.ts";

let db: TestDatabase;
let sendgrid: SendgridSimulator;
let twilio: TwilioSimulator;
let worker: Worker;
let tenant: pg.Client;

beforeAll(async () => {
  [db, sendgrid, twilio] = await Promise.all([
    createTestDatabase(),
    startSendgridSimulator({ seed: 7 }),
    startTwilioSimulator(),
  ]);
  await makeLaunchable(db);
  await letMarketingGo(db);
  tenant = await db.connect("tenantA");
  worker = await startTestWorker(db, sendgrid, { config: testConfig(sendgrid, twilioEnvironment(twilio)) });
});
afterAll(async () => {
  await worker?.stop();
  await Promise.all([sendgrid?.close(), twilio?.close()]);
  await db?.close();
});

const completed = (id: string): Promise<void> =>
  db.until("select status = 'completed' from ai_nurture_campaigns where id = $1", [id]);
const messagesGone = (id: string, n: number): Promise<void> =>
  db.until(
    `select count(*) = $2 from (
       select enrolment_id from ai_email_queue where status = 'completed'
       union all select enrolment_id from ai_sms_queue where status = 'completed'
     ) as q where enrolment_id = $1`,
    [id, n],
  );

describe("a worker", () => {
  it("performs each kind of step once, from the insert to the providers", async () => {
    await launch(tenant, "everything", [
      { step_number: 1, step_key: "pause", kind: "wait", delay: "0.2 seconds" },
      {
        step_number: 2,
        step_key: "known",
        kind: "branch",
        config: { when: [{ if: { field: "contact_name", op: "exists", value: true }, to: 4 }], else: 3 },
      },
      { step_number: 3, step_key: "unknown", kind: "task", config: { title: "Find out who it is" } },
      {
        step_number: 4,
        step_key: "which",
        kind: "split",
        config: {
          variants: [
            { name: "a", weight: 1, to: 5 },
            { name: "b", weight: 1, to: 5 },
          ],
        },
      },
      { step_number: 5, step_key: "call", kind: "task", config: { title: "Call them", priority: "high" } },
      { step_number: 6, step_key: "notify", kind: "notify", config: { subject: "A good one", body: "Have a look" } },
      { step_number: 7, step_key: "mail", kind: "send_email", template: "mail" },
      {
        step_number: 8,
        step_key: "answer",
        kind: "wait_for",
        delay: "2 days",
        config: waitingFor("called_back", 9, 10),
      },
      { step_number: 9, step_key: "text", kind: "send_sms", template: "text", config: { transactional: true } },
      { step_number: 10, step_key: "end", kind: "exit", config: { reason: "that was all" } },
    ]);
    const lead = await newLead(tenant, { email: "ann@example.com", phone: "+13035550142" });
    const id = await enrol(tenant, lead, "everything");
    await db.until(
      "select exists (select from ai_campaign_touches where campaign_id = $1 and step_key = 'answer' and status = 'pending')",
      [id],
    );
    await tenant.query("insert into lead_events (lead_id, event) values ($1, 'called_back')", [lead]);
    await completed(id);
    await messagesGone(id, 2);

    const touches = await db.query(
      "select step_key, status, attempts from ai_campaign_touches where campaign_id = $1 order by step_number",
      [id],
    );
    expect(touches).toEqual(
      ["pause", "known", "which", "call", "notify", "mail", "answer", "text", "end"].map((step_key) => ({
        step_key,
        status: "completed",
        attempts: 1,
      })),
    );
    expect(sendgrid.messages.filter((message) => message.to[0]?.email === "ann@example.com")).toMatchObject([
      { subject: "Hello Ann" },
    ]);
    expect(twilio.messages.filter((message) => message.to === "+13035550142")).toMatchObject([{ body: "Hi Ann" }]);
    expect(
      (await tenant.query("select title, priority, status from lead_tasks where lead_id = $1", [lead])).rows,
    ).toEqual([{ title: "Call them", priority: "high", status: "open" }]);
    expect(
      (await tenant.query("select subject, lead_id from tenant_notifications where lead_id = $1", [lead])).rows,
    ).toEqual([{ subject: "A good one: Ann Lee", lead_id: lead }]);
    expect(await enrolmentOf(db, id)).toMatchObject({ exit_reason: "that was all", touch_count: 2 });
    const { rows } = await tenant.query(
      "select step_key, reached::int, performed::int, sent::int from brainops.campaign_results where code = 'everything' and sent > 0 order by 1",
    );
    expect(rows).toEqual([
      { step_key: "mail", reached: 1, performed: 1, sent: 1 },
      { step_key: "text", reached: 1, performed: 1, sent: 1 },
    ]);
  });

  it("continues with the other step when no event arrives in time", async () => {
    await launch(tenant, "silence", [
      {
        step_number: 1,
        kind: "wait_for",
        delay: "0.3 seconds",
        config: waitingFor("called_back", 3, 2),
      },
      { step_number: 2, step_key: "silent", kind: "send_email", template: "mail", next_step: 4 },
      { step_number: 3, step_key: "came", kind: "send_email", template: "mail" },
      { step_number: 4, kind: "exit" },
    ]);
    const id = await enrol(tenant, await newLead(tenant), "silence");
    await completed(id);
    await messagesGone(id, 1);
    expect((await touchesOf(db, id)).map((touch) => touch.outcome)).toEqual([
      "timed out: no called_back",
      "queued",
      "ended by an exit step",
    ]);
    expect(await messagesOf(db, id)).toMatchObject([{ step_key: "silent", status: "completed" }]);
    expect(sendgrid.duplicates()).toEqual([]);
  });
});
