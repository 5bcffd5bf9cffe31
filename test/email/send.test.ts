import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let worker: Worker;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  worker = await startTestWorker(db, simulator);
});

afterAll(async () => {
  await worker.stop();
  await simulator.close();
  await db.close();
});

const done = "select bool_and(status in ('completed', 'failed', 'skipped')) from ai_email_queue where id = any ($1)";

describe("a row in ai_email_queue", () => {
  it("is one mail, with our id, from the tenant's own login", async () => {
    const [row] = await db.as<{ id: string }>(
      "tenantA",
      "insert into ai_email_queue (recipient, subject, body, status) values ('ann@example.com', 'Hello', '<p>Hi</p>', 'queued') returning id",
    );
    await db.until(done, [[row?.id]]);
    const [after] = await db.as(
      "tenantA",
      "select status, attempts, last_error, sent_at is not null as sent, provider_message_id from ai_email_queue",
    );
    expect(after).toMatchObject({ status: "completed", attempts: 1, last_error: null, sent: true });
    expect(simulator.acceptedCount(row?.id ?? "")).toBe(1);
    expect(simulator.messages.at(-1)).toMatchObject({ subject: "Hello", messageId: after?.["provider_message_id"] });
  });
});
