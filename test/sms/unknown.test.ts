// A text whose outcome is unknown: settled by Twilio's callback or by its list, and never sent again
// unless Twilio certainly does not have it.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { startTestServer } from "../http/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import {
  createSentTexts,
  insertText,
  newSid,
  startSmsWorker,
  startTwilioSimulator,
  twilioEnvironment,
  type TwilioSimulator,
} from "./support.ts";

let db: TestDatabase;
let simulator: TwilioSimulator;
let server: HttpServer;
let worker: Worker;

beforeAll(async () => {
  db = await createTestDatabase();
  simulator = await startTwilioSimulator();
  // The server must know its address before it listens, because the worker below puts it into callbacks:
  // the first server reserves a port.
  const first = await startTestServer(db, twilioEnvironment(simulator));
  await first.close();
  const port = new URL(first.url).port;
  server = await startTestServer(db, { ...twilioEnvironment(simulator), PORT: port, PUBLIC_URL: first.url });
  worker = await startSmsWorker(db, simulator, { PUBLIC_URL: first.url });
});
afterEach(async () => {
  simulator.reset();
  await db.query("delete from brainops.circuit_breakers");
  await db.query("update ai_sms_queue set status = 'cancelled' where status in ('pending', 'unconfirmed')");
});
afterAll(async () => {
  await worker?.stop();
  await server?.close();
  await simulator?.close();
  await db?.close();
});

/** Moves the start of unconfirmed rows this far into the past. */
const age = (minutes: number) =>
  db.query(
    `update ai_sms_queue set started_at = started_at - $1::interval, looked_for_at = looked_for_at - $1::interval
     where status = 'unconfirmed'`,
    [`${minutes} minutes`],
  );

const becomes = (id: string, status: string): Promise<void> =>
  db.until("select status = $2 from ai_sms_queue where id = $1", [id, status]);
const rowOf = async (id: string): Promise<Record<string, unknown> | undefined> =>
  (await db.as("tenantA", "select * from ai_sms_queue where id = $1", [id]))[0];

/** Runs the task once and waits for its end. */
async function reconcile(): Promise<void> {
  const [job] = await db.query<{ id: string }>("select (graphile_worker.add_job('sms__reconcile')).id");
  await db.until("select not exists (select from graphile_worker._private_jobs where id = $1)", [job?.id]);
}

async function lose(moment: "before" | "after", columns: object = {}): Promise<string> {
  simulator.faults.add({ kind: "reset", moment });
  const id = await insertText(db, "tenantA", { ...columns });
  await becomes(id, "unconfirmed");
  return id;
}

describe("a text that was sent although the response was lost", () => {
  it("is settled by its callback", async () => {
    const id = await lose("after");
    expect(await simulator.flushEvents()).toMatchObject({ statuses: [204, 204] });
    await becomes(id, "completed");
    expect(await rowOf(id)).toMatchObject({
      attempts: 1,
      last_error: null,
      provider_message_id: simulator.messages[0]?.sid,
      sent_at: expect.any(Date),
    });
    expect(simulator.acceptedCount(id)).toBe(1);
  });

  it("is settled by Twilio's list if no callback arrives", async () => {
    const id = await lose("after", { body: "Your code:  4711 " });
    await age(2);
    await reconcile();
    expect(await rowOf(id)).toMatchObject({ status: "completed", provider_message_id: simulator.messages[0]?.sid });
    expect(simulator.acceptedCount(id)).toBe(1);
  });

  it("is settled at once if the callback arrived before our own timeout", async () => {
    simulator.faults.add({ kind: "slow", delayMs: 3000 });
    const id = await insertText(db, "tenantA");
    await simulator.waitFor(({ faulted }) => faulted === 1);
    await simulator.flushEvents();
    await db.until("select count(*) = 2 from sms_deliveries where sms_id = $1", [id]);
    expect(await rowOf(id)).toMatchObject({ status: "processing" });
    // As the engine does when the worker dies with the row in flight.
    await db.query("update ai_sms_queue set status = 'unconfirmed', lease = null, worker_id = null where id = $1", [
      id,
    ]);
    expect(await rowOf(id)).toMatchObject({ status: "completed", provider_message_id: simulator.messages[0]?.sid });
  }, 30_000);
});

describe("a text that was not sent", () => {
  it("is left unchanged for ten minutes, then becomes due again, and is sent once", async () => {
    const id = await lose("before");
    await age(2);
    await reconcile();
    expect(await rowOf(id)).toMatchObject({ status: "unconfirmed", times_absent: 0 });
    await age(15);
    await reconcile();
    await becomes(id, "completed");
    expect(await rowOf(id)).toMatchObject({ attempts: 1, times_absent: 1, last_error: null });
    expect(simulator.acceptedCount(id)).toBe(1);
  });

  it("fails the third time, with the reason", async () => {
    const id = await lose("before");
    for (const times of [1, 2]) {
      simulator.faults.add({ kind: "reset" });
      await age(15);
      await reconcile();
      await db.until("select status = 'unconfirmed' and times_absent = $2 from ai_sms_queue where id = $1", [
        id,
        times,
      ]);
    }
    await age(15);
    await reconcile();
    expect(await rowOf(id)).toMatchObject({
      status: "failed",
      last_error: "given up after 3 runs: each time Twilio gave no answer, and its list did not have the text",
    });
    expect(simulator.messages).toHaveLength(0);
  });

  it("stays unconfirmed if the list cannot be read", async () => {
    const id = await lose("before");
    await age(15);
    simulator.faults.add({ kind: "server_error", request: "list" });
    await reconcile();
    expect(await rowOf(id)).toMatchObject({ status: "unconfirmed" });
    await reconcile();
    expect(simulator.stats.lists).toBe(1);
    await age(15);
    await reconcile();
    await becomes(id, "completed");
  });

  it("is looked up only in the account that it was sent through", async () => {
    const [id] = await createSentTexts(
      db,
      db.tenantA,
      [{ to: "+13035550150", status: "unconfirmed" }],
      `AC${"9".repeat(32)}`,
    );
    await age(15);
    await reconcile();
    expect(await rowOf(id ?? "")).toMatchObject({ status: "unconfirmed" });
    expect(simulator.stats.lists).toBe(0);
  });
});

describe("two texts to one number", () => {
  const message = (sid: string, body: string, at: Date) => ({ sid, body, created_at: at.toISOString() });
  const settle = (messages: object[]) =>
    db.as<{ id: string; verdict: string }>(
      "worker",
      "select * from brainops_internal.reconcile_sms($1, '+13035550160', $2)",
      [simulator.accountSid, JSON.stringify(messages)],
    );
  const lost = (...bodies: string[]) =>
    createSentTexts(
      db,
      db.tenantA,
      bodies.map((body) => ({ to: "+13035550160", status: "unconfirmed", body })),
    );

  it("with the same body and one message: one was sent, the other was not", async () => {
    const ids = await lost("Same", "Same");
    await age(15);
    const verdicts = await settle([message(newSid(), "Same", new Date())]);
    expect(verdicts.map(({ verdict }) => verdict)).toEqual(["sent", "not sent"]);
    expect(verdicts.map(({ id }) => id).toSorted()).toEqual(ids.toSorted());
    const second = verdicts[1]?.id ?? "";
    await becomes(second, "completed");
    expect(simulator.acceptedCount(second)).toBe(1);
  });

  it("and a message that matches neither: nothing is sent, and the row is left to a person", async () => {
    const [one, two] = await lost("One", "Two");
    await age(15);
    const verdicts = await settle([message(newSid(), "One", new Date()), message(newSid(), "Edited", new Date())]);
    expect(verdicts).toEqual([
      { id: one, verdict: "sent" },
      { id: two, verdict: "unclear" },
    ]);
    expect((await rowOf(two ?? ""))?.["last_error"]).toMatch(/Twilio lists 1 other text/);
  });

  it("of which one is known: its message is not assigned to the other", async () => {
    const sid = newSid();
    await createSentTexts(db, db.tenantA, [{ to: "+13035550160", sid, body: "Same" }]);
    const [open] = await lost("Same");
    await age(15);
    expect(await settle([message(sid, "Same", new Date())])).toEqual([{ id: open, verdict: "not sent" }]);
  });

  it("of which one is in flight: nothing is decided", async () => {
    await lost("Same");
    await createSentTexts(db, db.tenantA, [{ to: "+13035550160", status: "processing", body: "Same" }]);
    await age(15);
    expect(await settle([])).toEqual([]);
    await db.query("delete from ai_sms_queue where status = 'processing'");
  });
});

describe("a worker that is lost", () => {
  it("before it began the text leaves no unknown outcome: the row is retried", async () => {
    const [id] = await createSentTexts(db, db.tenantA, [{ to: "+13035550170", status: "processing" }]);
    await db.query("update ai_sms_queue set text_sent = null where id = $1", [id]);
    await db.query("update ai_sms_queue set status = 'unconfirmed', lease = null, worker_id = null where id = $1", [
      id,
    ]);
    await becomes(id ?? "", "completed");
    expect(simulator.acceptedCount(id ?? "")).toBe(1);
  });

  it("cannot begin a text whose row it no longer holds", async () => {
    const id = await insertText(db, "tenantA", { scheduled_for: "2100-01-01Z" });
    const [row] = await db.query(
      "select brainops_internal.begin_sms($1, gen_random_uuid(), '+1', 'x', 1, 'AC', null, false) as done",
      [id],
    );
    expect(row).toEqual({ done: false });
    expect(await rowOf(id)).toMatchObject({ text_sent: null });
  });
});
