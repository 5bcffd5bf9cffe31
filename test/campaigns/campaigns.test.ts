// How enrolments begin and end, from each seat; and the shipped sequences, from start to end.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { beginAsWorker } from "../support/jobs.ts";
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
  publish,
  fixedClock,
  touchesOf,
  workOff,
} from "./support.ts";

const START = new Date("2026-03-02T16:00:00Z");
const HOUR = 3_600_000;

let db: TestDatabase;
let tenant: pg.Client;
let worker: pg.Client;
let setClock: (at: Date) => Promise<void>;

beforeAll(async () => {
  db = await createTestDatabase();
  await makeLaunchable(db);
  setClock = await fixedClock(db);
  tenant = await db.connect("tenantA");
  worker = await db.connect("worker");
  await setClock(START);
  await launch(tenant, "two_mails", [
    { step_number: 1, kind: "send_email", template: "mail" },
    { step_number: 2, kind: "send_email", template: "mail", delay: "1 day" },
  ]);
});

afterAll(() => db.close());

describe("an enrolment ends", () => {
  it.each([
    ["email_replied", "email", {}, "email_replied"],
    ["sms_replied", "sms", {}, "sms_replied"],
    ["email_unsubscribed", "email", {}, "email_unsubscribed"],
    ["email_bounced", "email", {}, "email_bounced"],
    ["opted_out", "email", {}, "opted_out"],
  ])("on %s (%s), and its queued messages are skipped", async (event, channel, metadata, reason) => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "two_mails");
    await workOff(worker, db.tenantA, id);
    await tenant.query("insert into lead_events (lead_id, event, channel, metadata) values ($1, $2, $3, $4)", [
      lead,
      event,
      channel,
      metadata,
    ]);
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: reason, next_touch_date: null });
    expect(await messagesOf(db, id)).toMatchObject([
      { status: "skipped", reason: `left the campaign: exited: ${reason}` },
    ]);
  });

  it("on won and on lost, in the transaction of the stage change", async () => {
    for (const stage of ["won", "lost"]) {
      const lead = await newLead(tenant);
      const id = await enrol(tenant, lead, "two_mails");
      await tenant.query("update revenue_leads set stage = $2 where id = $1", [lead, stage]);
      expect(await enrolmentOf(db, id)).toMatchObject({ status: "exited", exit_reason: stage });
    }
  });

  it("not on events from before it began, nor on events that it does not name", async () => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "two_mails");
    await tenant.query(
      "insert into lead_events (lead_id, event, occurred_at) values ($1, 'email_replied', '2026-01-01'), ($1, 'visited', default)",
      [lead],
    );
    expect((await enrolmentOf(db, id)).status).toBe("active");
  });

  it("while its touch is in flight: nothing more is sent", async () => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "two_mails");
    const [touch] = await claimTouches(worker, db.tenantA, id);
    if (touch === undefined) throw new Error("not claimed");
    await tenant.query("select brainops.exit_enrolment($1, 'said no')", [id]);
    expect(await perform(worker, db.tenantA, touch)).toMatchObject({
      outcome: "skip",
      reason: "enrolment exited: said no",
    });
    expect(await messagesOf(db, id)).toEqual([]);
  });
});

describe("a lead", () => {
  it("is in a campaign once, however often it is enrolled", async () => {
    const lead = await newLead(tenant);
    const id = await enrol(tenant, lead, "two_mails");
    expect(await enrol(tenant, lead, "two_mails")).toBe(id);
    expect(await touchesOf(db, id)).toHaveLength(1);
  });

  it.skipIf(!isServer)("is enrolled once by two calls at the same moment", async () => {
    const other = await db.connect("tenantA");
    const lead = await newLead(tenant);
    const ids = await Promise.all([enrol(tenant, lead, "two_mails"), enrol(other, lead, "two_mails")]);
    expect(new Set(ids).size).toBe(1);
    expect(await touchesOf(db, ids[0])).toHaveLength(1);
  });

  it("of another tenant cannot be enrolled, nor another tenant's campaign published", async () => {
    const lead = await newLead(tenant);
    expect((await refusal(db.as("tenantB", "select brainops.enrol($1, 'welcome')", [lead]))).code).toBe("OP009");
    const refused = {
      "publish_campaign('welcome', false, 'tenant-a')": "OP020",
      "pause_campaign('welcome', 'tenant-a')": "OP020",
      // The same error as for a tenant that exists.
      "pause_campaign('welcome', 'nowhere')": "OP020",
    };
    for (const [call, code] of Object.entries(refused)) {
      expect([call, (await refusal(db.as("tenantB", `select brainops.${call}`))).code]).toEqual([call, code]);
    }
    expect((await refusal(db.as("anonymous", "select * from campaigns"))).code).toBe("42501");
  });
});

describe("a published version", () => {
  it("cannot be changed, and an invalid one is not published", async () => {
    await expect(
      tenant.query("update campaign_steps set delay = '2 days' where step_number = 2 and template = 'mail'"),
    ).rejects.toMatchObject({ code: "OP021" });
    await expect(
      publish(tenant, "two_mails", [{ step_number: 1, kind: "send_email", template: "missing" }]),
    ).rejects.toMatchObject({ code: "OP022" });
  });
});

describe("a template that was sent", () => {
  it("cannot be changed or deleted; a version that was not sent can", async () => {
    const insert = (body: string): Promise<unknown> =>
      tenant.query("insert into ai_campaign_templates (name, subject, body) values ('kept', 'Hello', $1)", [body]);
    await insert("<p>First</p>");
    await insert("<p>Second</p>");
    await launch(tenant, "kept_words", [{ step_number: 1, kind: "send_email", template: "kept" }]);
    const id = await enrol(tenant, await newLead(tenant), "kept_words");
    await workOff(worker, db.tenantA, id);
    const change = (what: string, version: number): Promise<unknown> =>
      tenant.query(
        what === "delete"
          ? deleting("delete from ai_campaign_templates where name = 'kept' and version = $1")
          : "update ai_campaign_templates set body = '<p>Other</p>' where name = 'kept' and version = $1",
        [version],
      );
    for (const what of ["update", "delete"]) expect(await refusal(change(what, 2))).toMatchObject({ code: "OP021" });
    for (const what of ["update", "delete"]) await change(what, 1);
    const { rows } = await tenant.query("select version, body from ai_campaign_templates where name = 'kept'");
    expect(rows).toEqual([{ version: 2, body: "<p>Second</p>" }]);
  });

  it.skipIf(!isServer)("cannot be deleted while it is being sent", async () => {
    await tenant.query("insert into ai_campaign_templates (name, subject, body) values ('held', 'Hello', '<p>Hi</p>')");
    await launch(tenant, "held_words", [{ step_number: 1, kind: "send_email", template: "held" }]);
    const id = await enrol(tenant, await newLead(tenant), "held_words");
    const [touch] = await claimTouches(worker, db.tenantA, id);
    await beginAsWorker(worker, db.tenantA);
    const { rows } = await worker.query("select outcome from brainops_internal.perform_touch($1, $2)", [
      touch?.id,
      touch?.lease,
    ]);
    expect(rows).toEqual([{ outcome: "completed" }]);
    const deleted = refusal(tenant.query(deleting("delete from ai_campaign_templates where name = 'held'")));
    await db.until("select exists (select from pg_stat_activity where wait_event_type = 'Lock' and query like $1)", [
      "select brainops.delete_rows('ai_campaign_templates'%",
    ]);
    await worker.query("commit");
    expect(await deleted).toMatchObject({ code: "OP021" });
  });
});

describe("the shipped sequence", () => {
  const days = (...at: number[]): number[] => at.map((day) => day * 24);
  it.each([
    ["educational_drip", days(3, 6, 10, 13, 17)],
    ["nurture_five", days(0, 3, 7, 14, 21)],
    ["new_roofing_lead", [0, 24, 72]],
    ["welcome", days(0, 1, 3, 7)],
    ["reengagement", days(0, 7, 14, 21)],
    ["stale_estimate", [24, 96]],
    ["outreach", [0, 48, 96]],
  ])("%s runs to its end, each message at its hour", async (code, hours) => {
    await setClock(START);
    await tenant.query("update campaigns set status = 'active' where code = $1", [code]);
    // A zone without DST, so that the hours are exact.
    const id = await enrol(tenant, await newLead(tenant, { time_zone: "America/Phoenix" }), code);
    for (;;) {
      const { status, next_touch_date: next } = await enrolmentOf(db, id);
      if (status === "completed" || next === null) break;
      await setClock(next);
      await workOff(worker, db.tenantA, id);
    }
    const sent = (await messagesOf(db, id)).map(({ at }) => (at.getTime() - START.getTime()) / HOUR);
    expect(sent).toEqual(hours);
    expect(await enrolmentOf(db, id)).toMatchObject({ status: "completed", touch_count: hours.length });
  });
});

describe("what existing clients insert", () => {
  it("an enrolment with its own first touch has one touch, with the client's id", async () => {
    await setClock(START);
    const lead = await newLead(tenant);
    const [id, touchId] = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"];
    const due = new Date(START.getTime() + 72 * HOUR);
    await tenant.query(
      "insert into ai_nurture_campaigns (id, lead_id, campaign_type, status, next_touch_date, touch_count) values ($1, $2, 'educational_drip', 'active', $3, 0)",
      [id, lead, due],
    );
    await tenant.query(
      "insert into ai_campaign_touches (id, campaign_id, touch_type, scheduled_for, content_template) values ($1, $2, 'email', $3, 'educational_content_1')",
      [touchId, id, due],
    );
    expect(await touchesOf(db, id)).toMatchObject([
      { id: touchId, step_key: "content_1", status: "pending", scheduled_for: due },
    ]);
    await setClock(due);
    await workOff(worker, db.tenantA, id);
    expect((await touchesOf(db, id)).map((touch) => touch.step_key)).toEqual(["content_1", "content_2"]);
  });

  it("a definition without a lead is stored, without any effect", async () => {
    const { rows } = await tenant.query(
      "insert into ai_nurture_campaigns (name, campaign_type, is_active) values ('Standard Nurture Campaign', 'standard_nurture', true) returning lead_id, is_active",
    );
    expect(rows).toEqual([{ lead_id: null, is_active: true }]);
  });
});
