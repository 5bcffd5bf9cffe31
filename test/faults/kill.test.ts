import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startHttpServer } from "../../src/http/server.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { sendgridEnv, startWorkerProcess, type WorkerProcess } from "../support/process.ts";
import { log, testConfig } from "../support/worker.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let server: Awaited<ReturnType<typeof startHttpServer>>;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator({ seed: 7 })]);
  const config = testConfig(simulator, { PORT: "0" });
  server = await startHttpServer({ config, log, connectionString: db.urlOf("worker") });
  simulator.setWebhook(`${server.url}/webhooks/sendgrid`);
});

afterAll(async () => {
  for (const worker of started) worker.child.kill("SIGKILL");
  await server.close();
  await simulator.close();
  await db.close();
});

const started: WorkerProcess[] = [];

async function startOne(): Promise<WorkerProcess> {
  const worker = await startWorkerProcess(db.urlOf("worker"), sendgridEnv(simulator));
  started.push(worker);
  return worker;
}

describe.skipIf(!isServer)(
  "1,000 mails, with workers killed by SIGKILL and 500 responses after acceptance (needs server processes)",
  () => {
    it("sends no mail twice and ends every row as completed or unconfirmed, settled by its events", async () => {
      simulator.faults.add({ kind: "server_error", moment: "after", probability: 0.05 });
      // Slow enough that every kill finds mails in flight.
      simulator.faults.add({ kind: "slow", delayMs: 40, probability: 0.3 });
      await db.as(
        "tenantA",
        "insert into ai_email_queue (recipient, subject, body) select 'person' || i || '@example.com', 'Hello', '<p>Hi</p>' from generate_series(1, 1000) as i",
      );

      let workers = await Promise.all([startOne(), startOne()]);
      for (const accepted of [150, 300, 450, 600, 750]) {
        await simulator.waitFor((stats) => stats.messages >= accepted, 60_000);
        const [victim, ...others] = workers;
        victim?.child.kill("SIGKILL");
        await victim?.exited;
        workers = [...others, await startOne()];
      }
      // The time limit covers a breaker's wait, a probe that died with its worker, and a sweep each minute.
      await db.until(
        "select count(*) filter (where status in ('completed', 'unconfirmed')) = 1000 as settled, count(*) = 1000 as none_lost from ai_email_queue",
        [],
        120_000,
      );
      expect(simulator.duplicates()).toEqual([]);

      const [before] = await db.query<{ n: number }>(
        "select count(*)::int as n from ai_email_queue where status = 'unconfirmed'",
      );
      expect(before?.n).toBeGreaterThan(10);
      const accepted = simulator.messages.map((message) => message.customArgs["bo_msg"]);
      await simulator.flushEvents();
      await db.until("select not exists (select from webhook_events where status = 'pending')", [], 60_000);
      const left = await db.query<{ id: string }>("select id from ai_email_queue where status <> 'completed'");
      // What SendGrid never received stays unconfirmed, because its outcome is unknown to us.
      expect(left.filter(({ id }) => accepted.includes(id))).toEqual([]);
      expect(left.length + new Set(accepted).size).toBe(1000);
      // The job that applied the last events ends a moment after them.
      await db.until("select count(*) = 0 from graphile_worker.jobs where locked_at is not null");

      for (const worker of workers) worker.child.kill("SIGTERM");
      expect(await Promise.all(workers.map((worker) => worker.exited))).toEqual([0, 0]);
    }, 240_000);

    it("frees a killed worker's rows within 10 seconds", async () => {
      simulator.reset();
      await db.query("delete from brainops.circuit_breakers");
      simulator.faults.add({ kind: "slow", delayMs: 30_000 });
      const victim = await startOne();
      const [row] = await db.as<{ id: string }>(
        "tenantA",
        "insert into ai_email_queue (recipient, subject, body) values ('slow@example.com', 'Hello', '<p>Hi</p>') returning id",
      );
      await db.until("select status = 'processing' from ai_email_queue where id = $1", [row?.id]);
      const other = await startOne();
      victim.child.kill("SIGKILL");
      await victim.exited;
      const killed = Date.now();
      await db.until("select status = 'unconfirmed' from ai_email_queue where id = $1", [row?.id]);
      expect(Date.now() - killed).toBeLessThan(10_000);
      const [after] = await db.query("select last_error from ai_email_queue where id = $1", [row?.id]);
      expect(after?.["last_error"]).toMatch(/its worker \(.*\) died while the row was in flight/);
      other.child.kill("SIGTERM");
      await other.exited;
    }, 60_000);
  },
);
