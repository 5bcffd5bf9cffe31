// Reminders and their escalations, with the engine's clock moved: sent by a real worker to the Slack simulator,
// and by mail without Slack.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import { startSlackSimulator, type SlackSimulator } from "../../src/simulator/slack/index.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { refusal } from "../support/refusal.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";
import { insertLead, stepsOf, win, type Workflow } from "./support.ts";

const secrets = { BRAINOPS_SECRET_KEY: Buffer.alloc(32, 7).toString("base64") };

let db: TestDatabase;
let slack: SlackSimulator;
let worker: Worker;

beforeAll(async () => {
  [db, slack] = await Promise.all([createTestDatabase(), startSlackSimulator()]);
  await db.query(`update tenants set settings = '{"notify_email": "office@tenant-b.example"}' where slug = 'tenant-b'`);
  const admin = await db.connect("superuser");
  const account = { tenantId: db.tenantA, provider: "slack" } as const;
  const config = testConfig(null, { ...secrets, SLACK_BASE_URL: slack.url });
  await saveCredential(admin, config, account, { webhook_url: slack.webhookUrl });
  worker = await startTestWorker(db, null, { config });
});

afterAll(async () => {
  await worker?.stop();
  await slack?.close();
  await db?.close();
});

interface Reminder {
  readonly kind: string;
  readonly status: string;
  readonly at: number;
}

/** Reminders of the workflow's step, in days from its due date. */
async function remindersOf(workflow: Workflow, step: string): Promise<Reminder[]> {
  return db.query<Reminder & Record<string, unknown>>(
    `select r.kind, r.status, extract(epoch from r.scheduled_for - r.due_at)::int / 86400 as at
     from onboarding_reminders as r inner join ai_onboarding_steps as s on s.id = r.step_id
     where r.workflow_id = $1 and s.step_name = $2 order by r.due_at, r.kind desc`,
    [workflow.id, step],
  );
}

async function settled(table: string, key_: string): Promise<Record<string, unknown>> {
  await db.until(
    `select bool_and(status not in ('pending', 'processing')) from ${table} where idempotency_key = $1 or id::text = $1`,
    [key_],
  );
  const [row] = await db.query(`select * from ${table} where idempotency_key = $1 or id::text = $1`, [key_]);
  return row ?? {};
}

/** Runs the reminder that is due at that time. Wake-up jobs follow real time, so the row is made due now. */
async function at(clock: string, workflow: Workflow, kind: string): Promise<Record<string, unknown>> {
  await db.setClock(clock);
  await db.query(
    `update onboarding_reminders set scheduled_for = pg_catalog.now() where workflow_id = $1 and kind = $2 and status = 'pending'`,
    [workflow.id, kind],
  );
  const [reminder] = await db.query<{ id: string }>(
    "select id from onboarding_reminders where workflow_id = $1 and kind = $2 order by due_at desc limit 1",
    [workflow.id, kind],
  );
  return settled("onboarding_reminders", reminder?.id ?? "");
}

describe("a step that is due", () => {
  it("has a reminder a day before and an escalation a day after; they follow the due date and end with the step", async () => {
    const { workflow } = await win(db);
    await db.as("tenantA", "select brainops.complete_onboarding_step($1, 'welcome_email')", [workflow.id]);
    expect(await remindersOf(workflow, "data_collection")).toEqual([
      { kind: "reminder", status: "pending", at: -1 },
      { kind: "escalation", status: "pending", at: 1 },
    ]);
    await db.as(
      "tenantA",
      "update ai_onboarding_steps set due_at = due_at + interval '7 days' where workflow_id = $1 and step_number = 2",
      [workflow.id],
    );
    expect((await remindersOf(workflow, "data_collection")).map((row) => row.status)).toEqual([
      "cancelled",
      "cancelled",
      "pending",
      "pending",
    ]);
    await db.as("tenantA", "select brainops.complete_onboarding_step($1, 'data_collection')", [workflow.id]);
    expect((await remindersOf(workflow, "data_collection")).map((row) => row.status)).toEqual(
      Array(4).fill("cancelled"),
    );
  });

  it("is reported to the lead's owner by mail, once; then to the tenant's Slack, once", async () => {
    const { workflow } = await win(db, "tenantA", { contact_name: "Rita <3", owner_email: "owner@tenant-a.example" });
    await db.as("tenantA", "select brainops.complete_onboarding_step($1, 'welcome_email')", [workflow.id]);
    try {
      expect(await at("2 days", workflow, "reminder")).toMatchObject({ status: "completed", attempts: 1 });
      const mails = await db.query(
        "select recipient, lead_id, subject, metadata from ai_email_queue where idempotency_key like 'onboarding_reminder:%'",
      );
      expect(mails).toMatchObject([
        { recipient: "owner@tenant-a.example", lead_id: null, metadata: { customer: "Rita <3" } },
      ]);
      expect(slack.messages).toEqual([]);

      expect(await at("5 days", workflow, "escalation")).toMatchObject({ status: "completed" });
      const [notice] = await db.query<{ id: string }>(
        "update tenant_notifications set scheduled_for = pg_catalog.now() where idempotency_key like 'onboarding_escalation:%' returning id",
      );
      expect(await settled("tenant_notifications", notice?.id ?? "")).toMatchObject({
        status: "completed",
        sent_via: "slack",
      });
      expect(slack.messages).toHaveLength(1);
      expect(slack.messages[0]).toMatch(/^\*Onboarding of Rita &lt;3 is overdue: data collection\*\nStep 2 of 5/);

      // A reminder that is run again notifies no one twice.
      await db.query(
        "update onboarding_reminders set status = 'pending' where workflow_id = $1 and kind = 'escalation' and status = 'completed'",
        [workflow.id],
      );
      await at("5 days", workflow, "escalation");
      expect(slack.messages).toHaveLength(1);
      expect(
        await db.query("select from tenant_notifications where idempotency_key like 'onboarding_escalation:%'"),
      ).toHaveLength(1);
    } finally {
      await db.setClock("0");
    }
  });

  it("is overdue in the views, and stuck; a paused one is not", async () => {
    const { workflow } = await win(db, "tenantA", {});
    await db.as("tenantA", "select brainops.complete_onboarding_step($1, 'welcome_email')", [workflow.id]);
    const stuck = "select reason from brainops.stuck_onboarding where workflow_id = $1";
    const overdue = "select overdue, percent from brainops.onboarding_progress where workflow_id = $1";
    expect(await db.as("tenantA", stuck, [workflow.id])).toEqual([]);
    await db.setClock("4 days");
    try {
      expect(await db.as("tenantA", stuck, [workflow.id])).toEqual([{ reason: "overdue" }]);
      expect(await db.as("tenantA", overdue, [workflow.id])).toEqual([{ overdue: true, percent: 20 }]);
      expect(await db.as("tenantB", stuck, [workflow.id])).toEqual([]);
      await db.as("tenantA", "update ai_onboarding_workflows set status = 'paused' where id = $1", [workflow.id]);
      expect(await db.as("tenantA", stuck, [workflow.id])).toEqual([]);
    } finally {
      await db.setClock("0");
    }
  });

  it("that was closed in between is skipped by the gate, with the reason", async () => {
    const { workflow } = await win(db);
    const [first] = await stepsOf(db, workflow);
    await db.as("tenantA", "select brainops.complete_onboarding_step($1, 'welcome_email')", [workflow.id]);
    const [reminder] = await db.query<{ id: string }>(
      "insert into onboarding_reminders (tenant_id, workflow_id, step_id, kind, due_at) values ($1, $2, $3, 'reminder', '2026-01-01Z') returning id",
      [db.tenantA, workflow.id, first?.id],
    );
    expect(await settled("onboarding_reminders", reminder?.id ?? "")).toMatchObject({
      status: "skipped",
      skip_reason: "the step is completed",
    });
  });
});

describe("a notification to the tenant", () => {
  const notify = "select brainops.notify($1, $2, $3, $4) as id";

  it("is sent once for each key, and by mail without Slack; its text is not Liquid", async () => {
    const ids = [];
    for (let i = 0; i < 3; i += 1) {
      ids.push(
        ...(await db.as<{ id: string }>("tenantB", notify, [db.tenantB, "A {{ subject }}", "Body {% if %}", "once"])),
      );
    }
    expect(new Set(ids.map((row) => row.id)).size).toBe(1);
    expect(await settled("tenant_notifications", "once")).toMatchObject({ status: "completed", sent_via: "email" });
    const [mail] = await db.query("select recipient, subject, metadata from ai_email_queue where tenant_id = $1", [
      db.tenantB,
    ]);
    expect(mail).toMatchObject({
      recipient: "office@tenant-b.example",
      subject: "{{ notification.subject }}",
      metadata: { notification: { subject: "A {{ subject }}", body: "Body {% if %}" } },
    });
  });

  it("cannot be created by another tenant", async () => {
    expect((await refusal(db.as("tenantB", notify, [db.tenantA, "s", "b", null]))).code).toBe("42501");
    expect((await refusal(db.as("anonymous", notify, [db.tenantA, "s", "b", null]))).code).toBe("42501");
    expect(await db.as("service", notify, [db.tenantA, "s", "from a service", null])).toHaveLength(1);
  });

  it("waits without a recipient, names the missing setting, and is sent as soon as it is set", async () => {
    const [tenant] = await db.query<{ id: string }>("select brainops.create_tenant('tenant-c', 'C') as id");
    await db.query(notify, [tenant?.id, "Hello", "there", "waits"]);
    await db.until(
      "select last_error like 'waiting: %settings.notify_email%' from tenant_notifications where idempotency_key = 'waits'",
    );
    await db.query(`update tenants set settings = '{"notify_email": "c@tenant-c.example"}' where id = $1`, [
      tenant?.id,
    ]);
    expect(await settled("tenant_notifications", "waits")).toMatchObject({ status: "completed", sent_via: "email" });
  });

  it("is retried after temporary errors, and sent by mail if Slack no longer accepts it", async () => {
    slack.fail({ status: 500, body: "rollup_error" });
    const before = slack.messages.length;
    await db.query(notify, [db.tenantA, "After an error", "b", "500"]);
    await db.until(
      "select attempts = 1 and status = 'pending' and last_error like 'Slack answered 500%' from tenant_notifications where idempotency_key = '500'",
    );
    await db.query("update tenant_notifications set scheduled_for = now() where idempotency_key = '500'");
    expect(await settled("tenant_notifications", "500")).toMatchObject({ status: "completed", sent_via: "slack" });
    expect(slack.messages).toHaveLength(before + 1);

    slack.fail({ status: 429, body: "rate_limited", retryAfterSeconds: 30 });
    await db.query(notify, [db.tenantA, "Too fast", "b", "429"]);
    await db.until(
      "select attempts = 0 and scheduled_for > now() + interval '20 seconds' from tenant_notifications where idempotency_key = '429'",
    );

    slack.fail({ status: 404, body: "no_service" });
    await db.query(notify, [db.tenantA, "Gone", "b", "404"]);
    await db.until(
      "select last_error like 'waiting: Slack answered 404: no_service%' from tenant_notifications where idempotency_key = '404'",
    );
    await db.query(`update tenants set settings = '{"notify_email": "a@tenant-a.example"}' where id = $1`, [
      db.tenantA,
    ]);
    slack.fail({ status: 410, body: "channel_is_archived" });
    expect(await settled("tenant_notifications", "404")).toMatchObject({ status: "completed", sent_via: "email" });
  });

  it("about a lead is erased with it", async () => {
    const lead = await insertLead(db, "tenantA");
    await db.query("select brainops.notify($1, 's', 'b', 'about', $2)", [db.tenantA, lead]);
    await db.as("tenantA", deleting("delete from revenue_leads where id = $1"), [lead]);
    expect(await db.query("select from tenant_notifications where idempotency_key = 'about'")).toEqual([]);
  });
});
