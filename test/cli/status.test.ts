import { afterAll, beforeAll, expect, test } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { brainops } from "./run.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
  await db.as(
    "tenantA",
    `insert into ai_email_queue (recipient, subject, body, status, scheduled_for)
     values
       ('a@example.com', 's', 'b', 'pending', now() - interval '3 minutes'),
       ('b@example.com', 's', 'b', 'pending', now() + interval '1 day'),
       ('c@example.com', 's', 'b', 'completed', null),
       ('d@example.com', 's', 'b', 'failed', null)`,
  );
  await db.as("tenantB", "insert into ai_email_queue (recipient, subject, body) values ('e@example.com', 's', 'b')");
  // A provider's error text is printed to the operator's terminal.
  await db.query("update ai_email_queue set last_error = E'no\\u001b[2J\\u0007way' where recipient = 'a@example.com'");
});
afterAll(() => db.close());

test("a row for each table and tenant, without colours or control characters", async () => {
  const { code, stdout, stderr } = await brainops(["status"], { DATABASE_URL: db.url });
  expect(code).toBe(0);
  expect(stderr).toBe("");
  expect(stdout).toMatch(/^ai_email_queue +tenant-a +1 +1 +0 +1 +1 +0 +0 +3 min +no way$/m);
  expect(stdout).toMatch(/^ai_email_queue +tenant-b +1 +0 +0 +0 +0 +0 +0 +/m);
  expect(stdout).toContain("workers: none");
  expect(stdout).toContain("circuit breakers: all closed");
  // oxlint-disable-next-line no-control-regex -- expects none of them
  expect(stdout).not.toMatch(/[\u0000-\u0009\u000b-\u001f]/);
});

test("--json prints the same as JSON", async () => {
  const { code, stdout } = await brainops(["status", "--json"], { DATABASE_URL: db.url });
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({
    queues: [
      { table: "ai_email_queue", tenant: "tenant-a", due: 1, later: 1, completed_last_hour: 1, failed: 1 },
      { table: "ai_email_queue", tenant: "tenant-b", due: 1, later: 0 },
    ],
    workers: [],
    breakers: [],
  });
});

test("a tenant sees its own rows, and no workers", async () => {
  const { code, stdout } = await brainops(["status"], { DATABASE_URL: db.urlOf("tenantB") });
  expect(code).toBe(0);
  expect(stdout).toContain("tenant-b");
  expect(stdout).not.toContain("tenant-a");
  expect(stdout).toContain("workers: not visible to this login");
});

test("a failed event is shown, although it has no tenant and no job row", async () => {
  await db.query(
    `insert into webhook_events (provider, provider_event_id, payload, signature_ok, status, processed_at)
     values ('stripe', 'evt_failed', '{}', true, 'failed', now())`,
  );
  const { stdout } = await brainops(["status"], { DATABASE_URL: db.url });
  expect(stdout).toMatch(/^webhook_events +- +0 +0 +0 +0 +1 /m);
});

test("--watch prints once if stdout is not a terminal", async () => {
  const { code, stdout } = await brainops(["status", "--watch"], { DATABASE_URL: db.url });
  expect(code).toBe(0);
  expect(stdout).toContain("tenant-a");
});

test("an open breaker and a worker that lost its lock are shown", async () => {
  await db.query("select brainops_internal.hold_account('sendgrid', now() + interval '1 hour')");
  await db.query(
    "insert into brainops.worker_processes (id, host, pid, suspect_since) values (gen_random_uuid(), 'far-away', 7, now())",
  );
  const { stdout } = await brainops(["status"], { DATABASE_URL: db.url });
  expect(stdout).toMatch(/^far-away +7 +suspect/m);
  expect(stdout).toMatch(/^sendgrid +open/m);
});
