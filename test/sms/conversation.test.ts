// End to end: a worker that sends texts, a server that receives callbacks, and a person in between.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { startTestServer } from "../http/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import {
  insertText,
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
  [db, simulator] = await Promise.all([createTestDatabase(), startTwilioSimulator()]);
  // The server must know the address of its callbacks before it listens: the first one reserves a port.
  const first = await startTestServer(db, twilioEnvironment(simulator));
  await first.close();
  server = await startTestServer(db, {
    ...twilioEnvironment(simulator),
    PORT: new URL(first.url).port,
    PUBLIC_URL: first.url,
  });
  simulator.setWebhook(`${server.url}/webhooks/twilio/inbound`);
  worker = await startSmsWorker(db, simulator, { PUBLIC_URL: first.url });
});
afterAll(async () => {
  await worker?.stop();
  await server?.close();
  await simulator?.close();
  await db?.close();
});

const becomes = (id: string, status: string): Promise<void> =>
  db.until("select status = $2 from ai_sms_queue where id = $1", [id, status]);

/** The person sends a text; resolves when it is received and applied. */
async function write(from: string, body: string): Promise<void> {
  const { sid } = simulator.receive({ from, body });
  await simulator.flushEvents();
  await db.until("select exists (select from webhook_events where provider_event_id = $1 and status = 'completed')", [
    sid,
  ]);
}

async function text(recipient: string, columns: object = {}): Promise<string> {
  const id = await insertText(db, "tenantA", { recipient, ...columns });
  await becomes(id, "completed");
  return id;
}

describe("a person", () => {
  it("who writes STOP gets no more texts, not even queued ones, until START", async () => {
    const person = "+13035550101";
    await text(person);
    const queued = await insertText(db, "tenantA", { recipient: person, scheduled_for: "2100-01-01Z" });
    await write(person, "Stop");
    await db.as("tenantA", "update ai_sms_queue set scheduled_for = now() where id = $1", [queued]);
    await becomes(queued, "skipped");
    expect(await db.as("tenantA", "select skip_reason from ai_sms_queue where id = $1", [queued])).toEqual([
      { skip_reason: "suppressed: unsubscribed" },
    ]);
    await write(person, "START");
    const again = await text(person);
    expect(simulator.messages.filter(({ to }) => to === person).map(({ row }) => row)).toHaveLength(2);
    expect(simulator.acceptedCount(again)).toBe(1);
  });

  it("who writes HELP gets instructions to opt out", async () => {
    const person = "+13035550102";
    await text(person);
    await write(person, "help");
    await simulator.waitFor(() => simulator.messages.filter(({ to }) => to === person).length === 2);
    expect(simulator.messages.at(-1)).toMatchObject({
      to: person,
      body: "Tenant A: you get text messages from us at this number. Reply STOP to opt out.",
    });
  });

  it("who blocked us at the carrier is not texted again", async () => {
    const person = "+13035530004";
    const id = await text(person);
    await simulator.flushEvents();
    await db.until("select exists (select from contact_suppressions where address = $1)", [person]);
    const next = await insertText(db, "tenantA", { recipient: person });
    await becomes(next, "skipped");
    expect(
      await db.as("tenantA", "select status, error_code from brainops.sms_results where sms_id = $1", [id]),
    ).toEqual([{ status: "undelivered", error_code: 30004 }]);
    expect(simulator.messages.filter(({ to }) => to === person)).toHaveLength(1);
  });

  it("gets the opt-out notice with the first marketing text only", async () => {
    // A country without legal hours for texts, so the test can run at any time.
    const person = "+447700900123";
    await db.as(
      "tenantA",
      `insert into contact_policies (channel, window_start, window_end, cap) values ('sms', '00:00', '24:00', 100)`,
    );
    const refused = await insertText(db, "tenantA", { recipient: person, metadata: {} });
    await becomes(refused, "skipped");
    await db.as("tenantA", "insert into contact_consents (channel, address, state) values ('sms', $1, 'granted')", [
      person,
    ]);

    simulator.faults.add({ kind: "refused", code: 30007, message: "Filtered", recipient: person, times: 1 });
    const lost = await insertText(db, "tenantA", { recipient: person, metadata: {} });
    await becomes(lost, "failed");
    await text(person, { metadata: {}, body: "First" });
    await text(person, { metadata: {}, body: "Second" });
    const bodies = simulator.messages.filter(({ to }) => to === person).map(({ body }) => body);
    expect(bodies).toEqual(["First. Reply STOP to opt out", "Second"]);
  });
});
