import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { startProxy, type Proxy } from "../support/proxy.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let proxy: Proxy;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  proxy = await startProxy(db.url);
});

afterAll(async () => {
  await proxy.close();
  await simulator.close();
  await db.close();
});

describe.skipIf(!isServer)("a network that silently stops responding (needs a server reached over TCP)", () => {
  it("is detected: the worker drops the dead connections and continues on new ones", async () => {
    const url = new URL(db.urlOf("worker"));
    url.host = `127.0.0.1:${proxy.port}`;
    const worker = await startTestWorker(db, simulator, { connectionString: url.href });
    const insert = async (): Promise<string> => {
      const [row] = await db.as<{ id: string }>(
        "tenantA",
        "insert into ai_email_queue (recipient, subject, body) values ('p@example.com', 'Hello', '<p>Hi</p>') returning id",
      );
      return row?.id ?? "";
    };
    const done = "select status = 'completed' from ai_email_queue where id = $1";
    await db.until(done, [await insert()]);

    expect(proxy.blackhole()).toBeGreaterThan(3);
    await db.until(done, [await insert()], 25_000);
    expect(simulator.duplicates()).toEqual([]);
    await worker.stop();
  }, 60_000);
});
