// Pauses: nothing is performed or sent during one, and what was due is spread over time after it.
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claim, claimOne, settle as settleMail } from "../support/jobs.ts";
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
const at = (hours: number): Date => new Date(START.getTime() + hours * 3_600_000);

let db: TestDatabase;
let tenant: pg.Client;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  tenant = await db.connect("tenantA");
  worker = await db.connect("worker");
});
beforeEach(() => setNow(db, START));
afterAll(() => db.close());

describe("a campaign that is paused", () => {
  beforeAll(() =>
    launch(tenant, "mails", [
      { step_number: 1, kind: "send_email", template: "mail" },
      { step_number: 2, kind: "send_email", template: "mail", delay: "24 hours" },
    ]),
  );

  it("holds its touches and its queued mails, including those in flight", async () => {
    const [sent, held] = [
      await enrol(tenant, await newLead(tenant), "mails"),
      await enrol(tenant, await newLead(tenant), "mails"),
    ];
    await workOff(worker, db.tenantA, sent);
    const [touch] = await claimTouches(worker, db.tenantA, held);
    if (touch === undefined) throw new Error("not claimed");
    await tenant.query("select brainops.pause_campaign('mails')");
    const answer = await perform(worker, db.tenantA, touch);
    expect(answer).toMatchObject({ outcome: "defer", reason: expect.stringContaining("campaign mails is paused") });
    await settle(worker, db.tenantA, touch, answer);
    expect(await messagesOf(db, held)).toEqual([]);
    expect(await messagesOf(db, sent)).toMatchObject([
      { status: "awaiting_approval", reason: expect.stringContaining("brainops.resume_campaign") },
    ]);
    await setNow(db, at(100));
    for (const id of [sent, held]) await workOff(worker, db.tenantA, id);
    expect((await touchesOf(db, sent)).map((one) => one.status)).toEqual(["completed", "awaiting_approval"]);

    await tenant.query("select brainops.resume_campaign('mails')");
    // 24 hours were left when the pause began, and still are.
    expect((await enrolmentOf(db, sent)).next_touch_date).toEqual(at(124));
    expect(await messagesOf(db, sent)).toMatchObject([{ status: "pending", reason: null, at: at(100) }]);
    await workOff(worker, db.tenantA, held);
    expect(await messagesOf(db, held)).toMatchObject([{ step_key: "1" }]);
  });

  it("holds a mail that was in flight and is deferred, even the last one of a sequence", async () => {
    await launch(tenant, "one_mail", [{ step_number: 1, kind: "send_email", template: "mail" }]);
    const id = await enrol(tenant, await newLead(tenant), "one_mail");
    await workOff(worker, db.tenantA, id);
    expect((await enrolmentOf(db, id)).status).toBe("completed");
    const [mail] = await db.query<{ id: string }>("select id from ai_email_queue where enrolment_id = $1", [id]);
    const mailId = mail?.id ?? "";
    const lease = await claimOne(worker, db.tenantA, mailId);
    await tenant.query("select brainops.pause_campaign('one_mail')");
    await settleMail(worker, db.tenantA, [{ id: mailId, lease, outcome: "defer", run_at: at(0), reason: "busy" }]);
    expect(await claim(worker, db.tenantA, [mailId])).toMatchObject([
      { outcome: "defer", reason: expect.stringContaining("campaign one_mail is paused") },
    ]);
    await tenant.query("select brainops.resume_campaign('one_mail')");
    await setNow(db, at(1));
    await claimOne(worker, db.tenantA, mailId);
  });

  it("resumes at five per second if many are due, each once", async () => {
    await launch(tenant, "crowd", [{ step_number: 1, kind: "send_email", template: "mail" }]);
    await tenant.query(
      `with leads as (
         insert into revenue_leads (contact_name, email) select 'Ann', 'crowd' || n || '@example.com' from generate_series(1, 300) as n
         returning id
       )
       insert into ai_nurture_campaigns (lead_id, campaign_type) select id, 'crowd' from leads`,
    );
    const { rows: mailed } = await tenant.query<{ id: string }>(
      "select id from ai_nurture_campaigns where campaign_type = 'crowd' order by id limit 50",
    );
    for (const { id } of mailed) await workOff(worker, db.tenantA, id);
    await tenant.query("select brainops.pause_campaign('crowd')");
    await setNow(db, at(5));
    await tenant.query("select brainops.resume_campaign('crowd')");
    const busiest = async (table: string, where: string): Promise<unknown> =>
      (
        await db.query(
          `select count(*)::int as rows, max(n)::int as a_second, (extract(epoch from max(at) - min(at)))::int as seconds
           from (
             select scheduled_for as at, count(*) over (order by scheduled_for range between current row and interval '0.999 seconds' following) as n
             from ${table} as t where ${where} and status = 'pending'
           ) as s`,
        )
      )[0];
    const ofCrowd = "select id from ai_nurture_campaigns where campaign_type = 'crowd'";
    expect(await busiest("ai_campaign_touches", `campaign_id in (${ofCrowd})`)).toEqual({
      rows: 250,
      a_second: 5,
      seconds: 50,
    });
    expect(await busiest("ai_email_queue", `enrolment_id in (${ofCrowd})`)).toEqual({
      rows: 50,
      a_second: 5,
      seconds: 10,
    });
  });
});
