// One tenant's transactions wait for locks: the other tenants' rows go on, on the same worker.
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { limits } from "../../src/db/limits.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";

const TABLES = ["shares_one", "shares_two", "shares_three"];
const define = fileURLToPath(new URL("../../src/jobs/define.ts", import.meta.url));

let db: TestDatabase;
let simulator: SendgridSimulator;
let tasks: string;
let worker: Worker | null = null;

/** Three job tables besides ai_email_queue. Each write of the engine needs the lock of the row's tenant in shares_lock. */
beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  tasks = await mkdtemp(join(tmpdir(), "brainops-tasks-"));
  await db.query("create table shares_lock (tenant_id uuid primary key)");
  await db.query("insert into shares_lock select id from tenants");
  await db.query(
    `create function shares_wait() returns trigger language plpgsql security definer as $$
     begin
       perform from public.shares_lock where tenant_id = new.tenant_id for update;
       return new;
     end $$`,
  );
  for (const table of TABLES) {
    await db.query(`create table ${table} (id uuid primary key default gen_random_uuid(), tenant_id uuid not null)`);
    await db.query("select brainops.define_job_table($1, $2, true)", [table, `${table}__run`]);
    const file = join(tasks, `${table}__run.ts`);
    await writeFile(
      file,
      `import { defineJob } from ${JSON.stringify(define)};
       export default defineJob({ table: "${table}", effect: async () => ({ kind: "completed" }) });`,
    );
  }
  for (const table of [...TABLES, "ai_email_queue"]) {
    await db.query(
      `create trigger z9_shares_wait before update on ${table} for each row
       when (new.status in ('processing', 'completed')) execute function shares_wait()`,
    );
  }
});

afterAll(async () => {
  await worker?.stop(1000);
  await simulator.close();
  await db.close();
  await rm(tasks, { recursive: true });
});

const ours =
  "select count(*)::int as n from pg_stat_activity where application_name like 'brainops %' and datname = current_database()";
const most = 6 + 3 + 5 + 1; // The worker's three pools, and liveness.

async function sendMails(seat: "tenantA" | "tenantB", n: number): Promise<string[]> {
  const rows = await db.as<{ id: string }>(
    seat,
    "insert into ai_email_queue (recipient, subject, body) select 'p' || i || '@example.com', 's', 'b' from generate_series(1, $1::int) as i returning id",
    [n],
  );
  return rows.map(({ id }) => id);
}

const done = "select bool_and(status = 'completed') from ai_email_queue where id = any ($1)";

describe.skipIf(!isServer)("a tenant whose transactions wait for locks (needs server processes)", () => {
  it("with 60 due rows in each of four tables does not delay another tenant's mails, and leaves no backends behind", async () => {
    worker = await startTestWorker(db, simulator, { tasks: [tasks] });
    const holder = await db.connect("superuser");
    await holder.query("begin");
    await holder.query("select from shares_lock where tenant_id = $1 for update", [db.tenantB]);
    for (const table of TABLES) {
      await db.as("tenantB", `insert into ${table} (tenant_id) select $1 from generate_series(1, 60)`, [db.tenantB]);
    }
    const held = await sendMails("tenantB", 60);
    await db.until(
      "select count(*) > 0 from pg_stat_activity where application_name like 'brainops %' and wait_event_type = 'Lock'",
    );

    for (let round = 0; round < 5; round += 1) {
      const ids = await sendMails("tenantA", 10);
      await db.until(done, [ids], 5000);
      expect((await db.query<{ n: number }>(ours))[0]?.n).toBeLessThanOrEqual(most);
      await db.until(
        "select clock_timestamp() > max(finished_at) + interval '2 seconds' from ai_email_queue where tenant_id = $1",
        [db.tenantA],
      );
    }
    await holder.query("commit");

    // Nothing that had not started is lost, and nothing is counted against a row.
    await db.until(done, [held], 90_000);
    const [rest] = await db.query(`select max(attempts)::int as attempts from ai_email_queue where id = any ($1)`, [
      held,
    ]);
    expect(rest).toEqual({ attempts: 1 });
    expect(simulator.duplicates()).toEqual([]);
  }, 180_000);

  it("holds results of rows that were sent: they are written once the lock is gone, and occupy no job slots", async () => {
    worker ??= await startTestWorker(db, simulator, { tasks: [tasks] });
    simulator.faults.add({ kind: "slow", delayMs: 1500, probability: 1 });
    const sent = await sendMails("tenantB", 20);
    await db.until("select bool_and(status = 'processing') from ai_email_queue where id = any ($1)", [sent]);
    const holder = await db.connect("superuser");
    await holder.query("begin");
    await holder.query("select from shares_lock where tenant_id = $1 for update", [db.tenantB]);
    simulator.faults.clear();
    await db.until(
      "select count(*) > 0 from pg_stat_activity where application_name = 'brainops worker' and wait_event_type = 'Lock'",
    );
    // The worker runs 20 jobs at once, and each of them was one of the rows above.
    for (let round = 0; round < 3; round += 1) await db.until(done, [await sendMails("tenantA", 10)], 5000);
    await holder.query("commit");
    await db.until(done, [sent], 20_000);
    expect(simulator.duplicates()).toEqual([]);
  }, 60_000);

  it("does not end graphile-worker's run when a client's transaction has locked the jobs of its rows", async () => {
    worker ??= await startTestWorker(db, simulator, { tasks: [tasks] });
    simulator.faults.add({ kind: "slow", delayMs: 2000, probability: 1 });
    const rows = await sendMails("tenantB", 10);
    await db.until("select bool_and(status = 'processing') from ai_email_queue where id = any ($1)", [rows]);
    const holder = await db.connect("superuser");
    await holder.query("begin");
    const jobs = "select id from graphile_worker._private_jobs where locked_at is not null for update";
    expect((await holder.query(jobs)).rowCount).toBeGreaterThanOrEqual(10);
    simulator.faults.clear();
    const pools = "select pool_ids from brainops.worker_processes";
    const before = await db.query(pools);
    await db.until(done, [rows]);
    // For longer than a client of the worker waits for an answer.
    const until = Date.now() + limits.runner.queryMs + 2000;
    while (Date.now() < until) await db.until(done, [await sendMails("tenantA", 10)], 5000);
    await holder.query("commit");
    await db.until("select not exists (select from graphile_worker.jobs where locked_at is not null)", [], 20_000);
    expect(await db.query(pools)).toEqual(before);
  }, 60_000);
});
