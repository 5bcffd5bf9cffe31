import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startHttpServer } from "../../src/http/server.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { letMarketingGo } from "../support/marketing.ts";
import { sendgridEnv, startWorkerProcess, type WorkerProcess } from "../support/process.ts";
import { log, testConfig } from "../support/worker.ts";

const PEOPLE = 6000;

let db: TestDatabase;
let simulator: SendgridSimulator;
let server: Awaited<ReturnType<typeof startHttpServer>>;
const started: WorkerProcess[] = [];

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator({ seed: 11 })]);
  await letMarketingGo(db);
  await db.query("select brainops.announce_public_url('https://ops.example')");
  server = await startHttpServer({
    config: testConfig(simulator, { PORT: "0" }),
    log,
    connectionString: db.urlOf("worker"),
  });
  simulator.setWebhook(`${server.url}/webhooks/sendgrid`);
});

afterAll(async () => {
  for (const worker of started) worker.child.kill("SIGKILL");
  await server.close();
  await simulator.close();
  await db.close();
});

async function startOne(): Promise<WorkerProcess> {
  const worker = await startWorkerProcess(db.urlOf("worker"), sendgridEnv(simulator));
  started.push(worker);
  return worker;
}

describe.skipIf(!isServer)(
  "a broadcast to 6,000 people, with workers killed by SIGKILL during its batches (needs server processes)",
  () => {
    it("reaches everyone once; rows that were in flight are settled by their events", async () => {
      // Responses are slow, so each kill finds batches in flight.
      simulator.faults.add({ kind: "slow", delayMs: 300, probability: 0.7 });
      const [broadcast] = await db.as<{ id: string }>(
        "tenantA",
        "insert into ai_broadcasts (subject, body, status) values ('Hi {{ name }}', '<p>Hello {{ name }}</p>', 'active') returning id",
      );
      await db.as(
        "tenantA",
        `insert into ai_email_queue (broadcast_id, recipient, metadata)
       select $1, 'p' || i || '@example.com', jsonb_build_object('name', i) from generate_series(1, $2::int) as i`,
        [broadcast?.id, PEOPLE],
      );
      let worker = await startOne();
      for (const accepted of [500, 2500]) {
        await simulator.waitFor((stats) => stats.messages >= accepted, 60_000);
        worker.child.kill("SIGKILL");
        await worker.exited;
        worker = await startOne();
      }
      await db.until(
        "select count(*) filter (where status in ('completed', 'unconfirmed')) = $1 as settled from ai_email_queue",
        [PEOPLE],
        90_000,
      );
      expect(simulator.duplicates()).toEqual([]);
      const [lost] = await db.query<{ n: number }>(
        "select count(*)::int as n from ai_email_queue where status = 'unconfirmed'",
      );
      expect(lost?.n).toBeGreaterThan(0);

      const accepted = new Set(simulator.messages.map((message) => message.customArgs["bo_msg"]));
      await simulator.flushEvents();
      await db.until("select not exists (select from webhook_events where status = 'pending')", [], 90_000);
      const left = await db.query<{ id: string }>("select id from ai_email_queue where status <> 'completed'");
      // What SendGrid never received stays unconfirmed, because its outcome is unknown to us.
      expect(left.filter(({ id }) => accepted.has(id))).toEqual([]);
      expect(left.length + accepted.size).toBe(PEOPLE);
      worker.child.kill("SIGTERM");
      expect(await worker.exited).toBe(0);
    }, 240_000);
  },
);
