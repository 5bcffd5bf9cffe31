// With all faults at once, each text is sent exactly once.
import { afterAll, beforeAll, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { startTestServer } from "../http/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startSmsWorker, startTwilioSimulator, twilioEnvironment, type TwilioSimulator } from "./support.ts";

const TEXTS = 120;

let db: TestDatabase;
let simulator: TwilioSimulator;
let server: HttpServer;
let worker: Worker;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startTwilioSimulator({ seed: 7 })]);
  // The server must know the address of its callbacks before it listens: the first one reserves a port.
  const first = await startTestServer(db, twilioEnvironment(simulator));
  await first.close();
  server = await startTestServer(db, {
    ...twilioEnvironment(simulator),
    PORT: new URL(first.url).port,
    PUBLIC_URL: first.url,
  });
  worker = await startSmsWorker(db, simulator, { PUBLIC_URL: first.url });
});
afterAll(async () => {
  await worker?.stop();
  await server?.close();
  await simulator?.close();
  await db?.close();
});

/** Simulates an hour: breakers close, deferred rows become due, and Twilio's list is read. */
async function passHour(): Promise<void> {
  await db.query("delete from brainops.circuit_breakers");
  await db.query(
    "update ai_sms_queue set started_at = started_at - interval '1 hour', looked_for_at = null where status = 'unconfirmed'",
  );
  await db.query("update ai_sms_queue set scheduled_for = now() where status = 'pending' and scheduled_for > now()");
  const [job] = await db.query<{ id: string }>("select (graphile_worker.add_job('sms__reconcile')).id");
  await db.until("select not exists (select from graphile_worker._private_jobs where id = $1)", [job?.id]);
  await simulator.flushEvents();
  await db.until(
    "select not exists (select from ai_sms_queue where status = 'processing' or (status = 'pending' and scheduled_for <= now()))",
  );
}

it(`${TEXTS} texts, every fault, callbacks lost, repeated and shuffled: each text is sent once`, async () => {
  simulator.faults.add({ kind: "reset", moment: "after", probability: 0.1 });
  simulator.faults.add({ kind: "server_error", moment: "after", probability: 0.1 });
  simulator.faults.add({ kind: "reset", moment: "before", probability: 0.3, times: 20 });
  simulator.faults.add({ kind: "server_error", moment: "before", probability: 0.3, times: 10 });
  simulator.faults.add({ kind: "rate_limited", retryAfterSeconds: 1, probability: 0.05, times: 5 });
  simulator.faults.add({ kind: "server_error", request: "list", probability: 0.3 });
  simulator.setModes({ lose: 0.4, duplicates: "same", copies: 2, reorder: true, concurrency: 4 });
  // Three bodies and forty numbers: neither alone identifies a row.
  await db.as(
    "tenantA",
    `insert into ai_sms_queue (recipient, body, metadata)
     select '+1303555' || to_char(n % 40, 'FM0000'), 'Text ' || n % 3, '{"transactional": true}' from generate_series(1, $1::int) as n`,
    [TEXTS],
  );
  const left = async (): Promise<number> =>
    (await db.query<{ n: number }>("select count(*)::int as n from ai_sms_queue where status <> 'completed'"))[0]?.n ??
    -1;
  for (let hours = 0; hours < 25 && (await left()) > 0; hours += 1) await passHour();

  expect(await db.query("select status, count(*)::int as n from ai_sms_queue group by 1")).toEqual([
    { status: "completed", n: TEXTS },
  ]);
  expect(simulator.stats.faulted).toBeGreaterThan(20);
  expect(simulator.duplicates()).toEqual([]);
  expect(simulator.stats).toMatchObject({ messages: TEXTS, rows: TEXTS });
  const unknown = await db.query(
    "select provider_message_id as sid from ai_sms_queue where provider_message_id <> all ($1)",
    [simulator.messages.map(({ sid }) => sid)],
  );
  expect(unknown).toEqual([]);
}, 120_000);
