// What one tenant's rows can do to the circuit breaker of the platform's account, with a worker and the simulator.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let worker: Worker;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  worker = await startTestWorker(db, simulator, { concurrency: 4 });
});

afterEach(async () => {
  simulator.reset();
  await db.query("delete from ai_email_queue");
  await db.query("delete from brainops.pauses");
  await db.query("delete from brainops.circuit_breakers");
  // Not deleted: the worker reports the same tenant's successes only every 5 seconds.
  await db.query("update brainops.breaker_tenants set failures = 0, failing_since = null");
});

afterAll(async () => {
  await worker.stop();
  await simulator.close();
  await db.close();
});

type Seat = "tenantA" | "tenantB";
const tenantOf = (seat: Seat): string => db[seat];

async function insert(seat: Seat, recipient: string, count = 1, priority = 0): Promise<void> {
  await db.as(
    seat,
    `insert into ai_email_queue (recipient, subject, body, job_priority)
     select $1, 's', 'b', $3 from generate_series(1, $2::int)`,
    [recipient, count, priority],
  );
}

const allBecome = (seat: Seat, status: string): Promise<void> =>
  db.until("select bool_and(status = $2) from ai_email_queue where tenant_id = $1", [tenantOf(seat), status]);

/** Whether every mail of the tenant was sent when it was due: a breaker that holds a row back moves scheduled_for. */
const onTime = async (seat: Seat): Promise<unknown> =>
  (
    await db.query(
      "select bool_and(status = 'completed' and scheduled_for <= created_at and attempts = 1) as sent from ai_email_queue where tenant_id = $1",
      [tenantOf(seat)],
    )
  )[0]?.["sent"];

const breakers = (): Promise<Record<string, unknown>[]> =>
  db.as("admin", "select account, state, opened_by, failing_tenants from brainops.breakers");

describe("a tenant whose mails cannot be put into a request", () => {
  it("fails alone: its rows are failed and count for no breaker, and another tenant's mail goes", async () => {
    for (let i = 0; i < 5; i += 1) {
      await db.as(
        "tenantB",
        `insert into ai_email_queue (recipient, subject, body, metadata) values ('x@b.example',
          '{% for i in (1..1100) %}{{ x }}{% endfor %}', 'b', jsonb_build_object('x', repeat('"', 250000)))`,
      );
      await db.until("select bool_and(status not in ('pending', 'processing')) from ai_email_queue", [], 60_000);
    }
    await allBecome("tenantB", "failed");
    expect(await breakers()).toEqual([]);
    await insert("tenantA", "ann@example.com");
    await allBecome("tenantA", "completed");
    expect(await onTime("tenantA")).toBe(true);
    expect(simulator.stats.requests).toBe(1);
  }, 300_000);
});

describe("a tenant whose mails SendGrid answers with errors", () => {
  it("never opens the account beside another tenant's successes, in any order or number", async () => {
    simulator.faults.add({ kind: "server_error", moment: "before", recipient: "*@poison.example" });
    for (let i = 0; i < 3; i += 1) {
      await insert("tenantA", "ann@example.com");
      await allBecome("tenantA", "completed");
      await insert("tenantB", "x@poison.example", 12, -50);
      await allBecome("tenantB", "unconfirmed");
      await insert("tenantA", "ann@example.com", 3);
      await allBecome("tenantA", "completed");
    }
    expect(await onTime("tenantA")).toBe(true);
    expect(await breakers()).toEqual([
      { account: "sendgrid", state: "closed", opened_by: null, failing_tenants: ["tenant-b"] },
    ]);
  });

  it("opens it for itself alone if nobody else calls, and cannot keep another tenant out by its probes", async () => {
    await db.query("update brainops.breaker_tenants set last_success_at = now() - interval '1 hour'");
    simulator.faults.add({ kind: "server_error", moment: "before", recipient: "*@poison.example" });
    await insert("tenantB", "x@poison.example", 5);
    await allBecome("tenantB", "unconfirmed");
    expect(await breakers()).toMatchObject([{ state: "open", opened_by: "tenant-b" }]);
    await insert("tenantB", "x@poison.example", 20, -50);
    await db.query("update brainops.circuit_breakers set retry_at = now()");
    await db.until(
      "select count(*) filter (where status = 'pending' and last_error like 'circuit breaker of%') >= 14 from ai_email_queue",
    );
    await insert("tenantA", "ann@example.com");
    await allBecome("tenantA", "completed");
    expect(await onTime("tenantA")).toBe(true);
    expect(await breakers()).toMatchObject([{ state: "closed", opened_by: null }]);
  });

  it("opens it for all together with another tenant whose mails fail", async () => {
    simulator.faults.add({ kind: "server_error", moment: "before", times: 6 });
    await insert("tenantA", "ann@example.com", 3);
    await allBecome("tenantA", "unconfirmed");
    await insert("tenantB", "bob@example.com", 3);
    await allBecome("tenantB", "unconfirmed");
    expect(await breakers()).toMatchObject([{ state: "open", opened_by: null }]);
    await insert("tenantA", "ann2@example.com");
    await db.until(
      "select last_error = 'circuit breaker of sendgrid is open' from ai_email_queue where recipient = 'ann2@example.com'",
    );
  });
});

describe("a tenant whose mails SendGrid forbids", () => {
  it("is paused alone; a second tenant's refusal pauses everyone", async () => {
    simulator.faults.add({ kind: "forbidden", times: 1 });
    await insert("tenantB", "x@b.example");
    await db.until("select bool_and(last_error like 'paused by%403%') from ai_email_queue");
    await insert("tenantA", "ann@example.com");
    await allBecome("tenantA", "completed");
    expect(await db.query("select tenant_id from brainops.pauses")).toEqual([{ tenant_id: db.tenantB }]);

    await db.query("update brainops.pauses set paused_at = now() + interval '1 minute'");
    simulator.faults.add({ kind: "forbidden", times: 1 });
    await insert("tenantA", "ann2@example.com");
    await db.until("select last_error like 'paused by%403%' from ai_email_queue where recipient = 'ann2@example.com'");
    expect(await db.query("select from brainops.pauses where tenant_id is null")).toHaveLength(1);
    await db.as("admin", "select brainops.resume('ai_email_queue')");
    await allBecome("tenantA", "completed");
    await allBecome("tenantB", "completed");
  });
});
