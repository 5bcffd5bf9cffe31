import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { sendgridEnv, startWorkerProcess, type WorkerProcess } from "../support/process.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let workers: WorkerProcess[] = [];

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
});

afterEach(async () => {
  for (const worker of workers) worker.child.kill("SIGKILL");
  await Promise.all(workers.map((worker) => worker.exited));
  workers = [];
  simulator.reset();
});

afterAll(async () => {
  await simulator.close();
  await db.close();
});

async function start(): Promise<WorkerProcess> {
  const worker = await startWorkerProcess(db.urlOf("worker"), sendgridEnv(simulator));
  workers.push(worker);
  return worker;
}

async function insert(n: number): Promise<string[]> {
  const rows = await db.as<{ id: string }>(
    "tenantA",
    "insert into ai_email_queue (recipient, subject, body) select 'p' || i || '@example.com', 'Hello', '<p>Hi</p>' from generate_series(1, $1::int) as i returning id",
    [n],
  );
  return rows.map(({ id }) => id);
}

const allDone = "select bool_and(status = 'completed') from ai_email_queue where id = any ($1)";

describe.skipIf(!isServer)("a worker process (needs server processes)", () => {
  it("drains on SIGTERM: rows in flight end, nothing stays locked, exit code 0", async () => {
    simulator.faults.add({ kind: "slow", delayMs: 500, probability: 1 });
    const worker = await start();
    const ids = await insert(100);
    await db.until("select count(*) > 0 from ai_email_queue where status = 'processing'");
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toBe(0);
    const [after] = await db.query<{ processing: number; locked: number; unconfirmed: number }>(
      `select count(*) filter (where status = 'processing')::int as processing,
         count(*) filter (where status = 'unconfirmed')::int as unconfirmed,
         (select count(*)::int from graphile_worker.jobs where locked_at is not null) as locked
       from ai_email_queue where id = any ($1)`,
      [ids],
    );
    expect(after).toEqual({ processing: 0, unconfirmed: 0, locked: 0 });
    expect(await db.query("select from brainops.worker_processes")).toHaveLength(0);
    simulator.faults.clear();
    await start();
    await db.until(allDone, [ids]);
    expect(simulator.duplicates()).toEqual([]);
  }, 60_000);

  it("survives a NOTIFY worker:migrate that any tenant can send", async () => {
    const worker = await start();
    await db.as("tenantB", `select pg_notify('worker:migrate', '{"migrationNumber":999,"breaking":true}')`);
    const ids = await insert(5);
    await db.until(allDone, [ids], 10_000);
    expect(worker.child.exitCode).toBeNull();
    worker.child.kill("SIGTERM");
    expect(await worker.exited).toBe(0);
  }, 60_000);

  it("survives the repeated loss of all its connections", async () => {
    const worker = await start();
    const ids = await insert(500);
    for (let round = 1; round <= 4; round += 1) {
      await simulator.waitFor((stats) => stats.accepted >= round * 50, 30_000);
      await db.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name like 'brainops%'",
      );
    }
    await db.until(
      "select bool_and(status in ('completed', 'unconfirmed')) from ai_email_queue where id = any ($1)",
      [ids],
      60_000,
    );
    expect(simulator.duplicates()).toEqual([]);
    expect(worker.child.exitCode).toBeNull();
  }, 90_000);

  it("sends one row of tenant B ahead of tenant A's 20,000", async () => {
    await start();
    await insert(20_000);
    await simulator.waitFor((stats) => stats.accepted >= 500, 30_000);
    const began = Date.now();
    const [row] = await db.as<{ id: string }>(
      "tenantB",
      "insert into ai_email_queue (recipient, subject, body) values ('b@example.com', 'Hello', '<p>Hi</p>') returning id",
    );
    await db.until("select status = 'completed' from ai_email_queue where id = $1", [row?.id]);
    expect(Date.now() - began).toBeLessThan(3000);
    const [left] = await db.query<{ n: number }>(
      "select count(*)::int as n from ai_email_queue where status = 'pending'",
    );
    expect(left?.n).toBeGreaterThan(10_000);
    await db.query("delete from ai_email_queue where status = 'pending'");
  }, 90_000);
});
