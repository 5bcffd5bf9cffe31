// Tenants' own provider accounts: a breaker each, and rows that report what they wait for.
import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";

const SECRET = { BRAINOPS_SECRET_KEY: randomBytes(32).toString("base64") };
const OWN_KEY = "SG.own-account-of-tenant-a";

let db: TestDatabase;
let simulator: SendgridSimulator;
let worker: Worker | undefined;

beforeAll(async () => {
  [db, simulator] = await Promise.all([
    createTestDatabase(),
    startSendgridSimulator({ apiKeys: ["SG.simulator", OWN_KEY] }),
  ]);
  await db.query(`update tenants set settings = settings || '{"mail_from": "own@sender.example"}' where id = $1`, [
    db.tenantA,
  ]);
});

afterEach(async () => {
  await worker?.stop();
  worker = undefined;
  simulator.reset();
  await db.query("delete from ai_email_queue");
  await db.query("delete from provider_credentials");
  await db.query("delete from brainops.circuit_breakers");
});

afterAll(async () => {
  await simulator.close();
  await db.close();
});

async function saveOwnAccount(): Promise<void> {
  const admin = await db.connect("superuser");
  await saveCredential(
    admin,
    testConfig(null, SECRET),
    { tenantId: db.tenantA, provider: "sendgrid" },
    { api_key: OWN_KEY },
  );
  await admin.end();
}

async function insert(seat: "tenantA" | "tenantB", count = 1): Promise<void> {
  await db.as(
    seat,
    "insert into ai_email_queue (recipient, subject, body) select 'p' || i || '@example.com', 's', 'b' from generate_series(1, $1::int) as i",
    [count],
  );
}

const becomes = (tenantId: string, status: string): Promise<void> =>
  db.until("select bool_and(status = $2) from ai_email_queue where tenant_id = $1", [tenantId, status]);

const waitsFor = (tenantId: string, text: string): Promise<void> =>
  db.until(
    "select bool_and(status = 'pending' and last_error like '%' || $2 || '%') from ai_email_queue where tenant_id = $1",
    [tenantId, text],
  );

describe("a tenant's own account", () => {
  it("has its own breaker: its failures delay no other tenant", async () => {
    await saveOwnAccount();
    worker = await startTestWorker(db, simulator, { config: testConfig(simulator, SECRET), concurrency: 1 });
    simulator.faults.add({ kind: "server_error", moment: "before", times: 5 });
    await insert("tenantA", 5);
    await becomes(db.tenantA, "unconfirmed");
    expect(await db.query("select account, state from brainops.breakers")).toEqual([
      { account: `sendgrid:${db.tenantA}`, state: "open" },
    ]);
    await insert("tenantA");
    await insert("tenantB", 3);
    await becomes(db.tenantB, "completed");
    await db.until(
      "select count(*) = 1 from ai_email_queue where status = 'pending' and last_error = 'circuit breaker of sendgrid:' || $1 || ' is open'",
      [db.tenantA],
    );
  });

  it("is enough if the platform has none; a tenant with neither waits, reports for what, and continues once one exists", async () => {
    await saveOwnAccount();
    const { SENDGRID_BASE_URL } = testConfig(simulator);
    worker = await startTestWorker(db, simulator, { config: testConfig(null, { ...SECRET, SENDGRID_BASE_URL }) });
    await insert("tenantA");
    await insert("tenantB");
    await becomes(db.tenantA, "completed");
    await waitsFor(db.tenantB, "waiting: needs a worker with SENDGRID_API_KEY and MAIL_FROM set");

    await worker.stop();
    worker = await startTestWorker(db, simulator, { config: testConfig(simulator) });
    await becomes(db.tenantB, "completed");
    expect(simulator.stats.messages).toBe(2);
  });

  it("that this worker cannot decrypt makes rows wait for the key; they continue when the account is switched off", async () => {
    await saveOwnAccount();
    worker = await startTestWorker(db, simulator, { config: testConfig(simulator) });
    await insert("tenantA");
    await waitsFor(db.tenantA, "waiting: needs a worker with BRAINOPS_SECRET_KEY set");
    expect(simulator.stats.requests).toBe(0);
    await db.as("tenantA", "update provider_credentials set active = false where provider = 'sendgrid'");
    await becomes(db.tenantA, "completed");
  });

  it("lets rows that waited continue by themselves when it is saved", async () => {
    const { SENDGRID_BASE_URL } = testConfig(simulator);
    worker = await startTestWorker(db, simulator, { config: testConfig(null, { ...SECRET, SENDGRID_BASE_URL }) });
    await insert("tenantA");
    await waitsFor(db.tenantA, "SENDGRID_API_KEY");
    await saveOwnAccount();
    await becomes(db.tenantA, "completed");
    expect(simulator.stats).toMatchObject({ messages: 1, refused: 0 });
  });
});
