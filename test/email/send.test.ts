import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let worker: Worker;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  worker = await startTestWorker(db, simulator);
});

afterEach(async () => {
  simulator.reset();
  await db.query("delete from brainops.circuit_breakers");
});

afterAll(async () => {
  await worker.stop();
  await simulator.close();
  await db.close();
});

interface Mail {
  readonly recipient?: string;
  readonly subject?: string;
  readonly body?: string;
  readonly metadata?: object;
}

async function insert(mail: Mail = {}): Promise<string> {
  const { recipient = "ann@example.com", subject = "Hello", body = "<p>Hi</p>", metadata = {} } = mail;
  const [row] = await db.as<{ id: string }>(
    "tenantA",
    "insert into ai_email_queue (recipient, subject, body, metadata) values ($1, $2, $3, $4) returning id",
    [recipient, subject, body, metadata],
  );
  return row?.id ?? "";
}

const becomes = (id: string, status: string): Promise<void> =>
  db.until("select status = $2 from ai_email_queue where id = $1", [id, status]);

async function rowOf(id: string): Promise<Record<string, unknown> | undefined> {
  const [row] = await db.as(
    "tenantA",
    "select status, attempts, deferrals, last_error, skip_reason, sent_at is not null as sent, provider_message_id from ai_email_queue where id = $1",
    [id],
  );
  return row;
}

describe("a row in ai_email_queue", () => {
  it("is sent as one mail, with our id, when the tenant's own login inserts it", async () => {
    const id = await insert({ subject: "Hello {{ name }}", metadata: { name: "Ann" } });
    await becomes(id, "completed");
    const row = await rowOf(id);
    expect(row).toMatchObject({ attempts: 1, last_error: null, sent: true });
    expect(simulator.acceptedCount(id)).toBe(1);
    expect(simulator.messages.at(-1)).toMatchObject({
      subject: "Hello Ann",
      messageId: row?.["provider_message_id"],
      customArgs: { bo_msg: id },
    });
  });

  it("reaches the lead that it names by id", async () => {
    const [lead] = await db.as<{ id: string }>(
      "tenantA",
      "insert into revenue_leads (contact_name, email) values ('Bea', 'bea@example.com') returning id",
    );
    const id = await insert({ recipient: lead?.id ?? "", body: "<p>Dear {{ lead.contact_name }}</p>" });
    await becomes(id, "completed");
    expect(simulator.messages.at(-1)).toMatchObject({ to: [{ email: "bea@example.com" }] });
    expect(JSON.stringify(simulator.messages.at(-1)?.content)).toContain("Dear Bea");
  });

  it("fails with a message if the lead has lost its address since", async () => {
    const [lead] = await db.as<{ id: string }>(
      "tenantA",
      "insert into revenue_leads (contact_name) values ('Cal') returning id",
    );
    const id = await insert({ recipient: lead?.id ?? "" });
    await becomes(id, "failed");
    expect((await rowOf(id))?.["last_error"]).toMatch(
      /is gone or has no e-mail address; add one or change the recipient/,
    );
  });

  it.each(["Ann <ann2@example.com>", "ann2@b.c_d"])(
    "fails without a call when the address of its lead is %j, which the queue would refuse",
    async (email) => {
      await db.as(
        "tenantA",
        "insert into contact_suppressions (channel, address) values ('email', 'ann2@example.com') on conflict do nothing",
      );
      const [lead] = await db.as<{ id: string }>(
        "tenantA",
        "insert into revenue_leads (email) values ($1) returning id",
        [email],
      );
      const id = await insert({ recipient: lead?.id ?? "" });
      await becomes(id, "failed");
      expect(await rowOf(id)).toMatchObject({
        attempts: 0,
        last_error: `recipient: '${email}', the address of lead ${lead?.id}, is not an e-mail address; correct it and set status to pending`,
      });
      expect(simulator.messages).toEqual([]);

      await db.as("tenantA", "update revenue_leads set email = 'ann3@example.com' where id = $1", [lead?.id]);
      await db.as("tenantA", "update ai_email_queue set status = 'pending' where id = $1", [id]);
      await becomes(id, "completed");
      await db.as("tenantA", deleting("delete from revenue_leads where id = $1"), [lead?.id]);
    },
  );

  it.each([
    ["as it is written", "stop@example.com", "stop@example.com"],
    ["in another case", "Stop2@Example.com", "STOP2@example.COM"],
  ])("is skipped for a suppressed address, %s", async (_name, suppressed, recipient) => {
    await db.as(
      "tenantA",
      "insert into contact_suppressions (channel, address, reason) values ('email', $1, 'manual')",
      [suppressed],
    );
    const id = await insert({ recipient });
    await becomes(id, "skipped");
    expect(await rowOf(id)).toMatchObject({ skip_reason: "suppressed: manual", attempts: 0 });
    expect(simulator.acceptedCount(id)).toBe(0);
  });

  it("is sent to an address that only another tenant suppressed, or whose suppression has expired", async () => {
    await db.as("tenantB", "insert into contact_suppressions (channel, address) values ('email', 'free@example.com')");
    await db.as(
      "tenantA",
      "insert into contact_suppressions (channel, address, expires_at) values ('email', 'free@example.com', now() - interval '1 hour')",
    );
    const id = await insert({ recipient: "free@example.com" });
    await becomes(id, "completed");
    expect(simulator.acceptedCount(id)).toBe(1);
  });

  it("fails with the provider's message on a 400, and with Liquid's on a template that does not parse", async () => {
    simulator.faults.add({ kind: "bad_request", message: "The subject is required.", field: "subject" });
    const refused = await insert();
    await becomes(refused, "failed");
    expect(await rowOf(refused)).toMatchObject({
      attempts: 1,
      last_error: "SendGrid answered 400: subject: The subject is required.",
    });
    const broken = await insert({ body: "<p>{% if %}</p>" });
    await becomes(broken, "failed");
    expect((await rowOf(broken))?.["last_error"]).toMatch(/^body: Liquid cannot be rendered/);
  });

  it("waits on a 429 until the time that it names, without using an attempt", async () => {
    simulator.faults.add({ kind: "rate_limited", resetSeconds: 2 });
    const id = await insert();
    await db.until(
      "select deferrals = 1 and status = 'pending' and scheduled_for > now() from ai_email_queue where id = $1",
      [id],
    );
    expect((await db.query("select state from brainops.breakers"))[0]).toEqual({ state: "open" });
    await becomes(id, "completed");
    expect(await rowOf(id)).toMatchObject({ attempts: 1, deferrals: 1 });
    expect((await db.query("select state from brainops.breakers"))[0]).toEqual({ state: "closed" });
  });

  it("becomes unconfirmed when the response is lost, and is never resent automatically", async () => {
    simulator.faults.add({ kind: "reset", moment: "after" });
    const id = await insert();
    await becomes(id, "unconfirmed");
    expect(simulator.acceptedCount(id)).toBe(1);
    await db.query("select * from brainops_internal.sweep()");
    expect(await rowOf(id)).toMatchObject({ status: "unconfirmed", attempts: 1 });
    await db.as("admin", "select brainops.confirm('ai_email_queue', $1, true)", [id]);
    expect(await rowOf(id)).toMatchObject({ status: "completed" });
    expect(simulator.acceptedCount(id)).toBe(1);
  });

  it("pauses the table for everyone on a 401, and continues when an admin resumes it", async () => {
    simulator.faults.add({ kind: "unauthorized" });
    const id = await insert();
    await db.until("select exists (select from brainops.pauses)");
    await db.until("select last_error like 'paused by%SendGrid answered 401%' from ai_email_queue where id = $1", [id]);
    const second = await insert();
    await db.until("select last_error like 'paused by%' from ai_email_queue where id = $1", [second]);
    expect(await rowOf(second)).toMatchObject({ status: "pending", attempts: 0 });
    await db.as("admin", "select brainops.resume('ai_email_queue')");
    await Promise.all([becomes(id, "completed"), becomes(second, "completed")]);
  });

  it("opens the breaker after five failures in a row and sends a single probe when it is time", async () => {
    simulator.faults.add({ kind: "server_error", moment: "before", times: 5 });
    for (let i = 0; i < 5; i += 1) await becomes(await insert(), "unconfirmed");
    expect((await db.query("select state, failures from brainops.breakers"))[0]).toEqual({
      state: "open",
      failures: 5,
    });
    const ids = [await insert(), await insert(), await insert()];
    await db.until(
      "select bool_and(last_error = 'circuit breaker of sendgrid is open' and scheduled_for > now()) from ai_email_queue where id = any ($1)",
      [ids],
    );
    const before = simulator.stats.requests;
    await db.query("update brainops.circuit_breakers set retry_at = now()");
    await db.query("update ai_email_queue set scheduled_for = now() where id = any ($1)", [ids]);
    await db.until("select bool_or(status = 'completed') from ai_email_queue where id = any ($1)", [ids]);
    await db.until("select state = 'closed' from brainops.breakers");
    await db.query("update ai_email_queue set scheduled_for = now() where status = 'pending' and id = any ($1)", [ids]);
    for (const id of ids) await becomes(id, "completed");
    expect(simulator.stats.requests - before).toBe(3);
  });
});

describe("without SENDGRID_API_KEY", () => {
  it("rows wait and name the variable, and continue once a worker has it", async () => {
    await worker.stop();
    const poor = await startTestWorker(db, null);
    const id = await insert();
    await db.query("select graphile_worker.add_job('maintenance__sweep')");
    await db.until(
      "select last_error like 'waiting: needs a worker with SENDGRID_API_KEY and MAIL_FROM set' from ai_email_queue where id = $1",
      [id],
    );
    expect(await rowOf(id)).toMatchObject({ status: "pending", attempts: 0 });
    await poor.stop();
    worker = await startTestWorker(db, simulator);
    await becomes(id, "completed");
    expect((await rowOf(id))?.["last_error"]).toBeNull();
  });
});
