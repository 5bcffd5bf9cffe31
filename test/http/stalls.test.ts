// A stall, rows due and none claimed, is reported by /readyz, /metrics, doctor and queue_health, whatever its cause.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { examineDatabase } from "../../src/cli/doctor/database.ts";
import type { HttpServer } from "../../src/http/server.ts";
import type { Worker } from "../../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";
import { startTestServer } from "./support.ts";

const TOKEN = "a-token-of-tests";

let db: TestDatabase;
let simulator: SendgridSimulator;
let server: HttpServer;
let worker: Worker | null = null;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
});

beforeEach(async () => {
  await db.setClock("0");
  await db.query("delete from ai_email_queue");
  await db.query("delete from brainops.job_claims");
  server = await startTestServer(db, { METRICS_TOKEN: TOKEN });
});

const holders: pg.Client[] = [];

async function hold(mode: string, table = "ai_email_queue"): Promise<pg.Client> {
  const holder = await db.connect("superuser");
  holders.push(holder);
  await holder.query(`begin; lock table ${table} in ${mode} mode`);
  return holder;
}

afterEach(async () => {
  await Promise.all(holders.splice(0).map((holder) => holder.end()));
  await worker?.stop(1000);
  worker = null;
  await server.close();
});

afterAll(async () => {
  await simulator.close();
  await db.close();
});

const insert = (seat: "tenantA" | "tenantB", n: number) =>
  db.as<{ id: string }>(
    seat,
    "insert into ai_email_queue (recipient, subject, body) select 'p' || i || '@example.com', 's', 'b' from generate_series(1, $1::int) as i returning id",
    [n],
  );

const readyz = async (): Promise<readonly string[]> => {
  const response = await fetch(`${server.url}/readyz`);
  const { reasons = [] } = (await response.json()) as { reasons?: string[] };
  expect(response.status).toBe(reasons.length === 0 ? 200 : 503);
  return reasons;
};
const metrics = async (): Promise<string> =>
  (await fetch(`${server.url}/metrics`, { headers: { authorization: `Bearer ${TOKEN}` } })).text();
const doctor = async (): Promise<unknown> => (await examineDatabase(db.url)).filter(({ name }) => name === "stall");
const health = (seat: "tenantA" | "admin") =>
  db.as<{ still: boolean }>(seat, "select stalled_since is not null as still from brainops.queue_health");

const well = [{ name: "stall", state: "ok", detail: "due rows are being claimed" }];

describe("a stall", () => {
  it("is reported if rows have been due for a minute and none was claimed", async () => {
    await insert("tenantA", 3);
    expect([await readyz(), await doctor(), await health("admin")]).toEqual([[], well, [{ still: false }]]);
    await db.setClock("90 seconds");
    const text = /^3 rows of ai_email_queue due, and none was claimed since 20\d\d-/;
    expect(await readyz()).toEqual([expect.stringMatching(text)]);
    expect(await doctor()).toEqual([{ name: "stall", state: "bad", detail: expect.stringMatching(text) }]);
    expect(await metrics()).toMatch(/^brainops_stalled_seconds\{table="ai_email_queue"\} \d/m);
    expect(await health("admin")).toEqual([{ still: true }]);
    expect(await health("tenantA")).toEqual([{ still: false }]);

    await db.query("select brainops_internal.record_claims($1)", [JSON.stringify({ ai_email_queue: 1 })]);
    expect([await readyz(), await doctor(), await health("admin")]).toEqual([[], well, [{ still: false }]]);
    expect(await metrics()).not.toContain('brainops_stalled_seconds{table="ai_email_queue"}');
  });

  it.each([
    [
      "wait for the reason in last_error",
      "update ai_email_queue set last_error = 'waiting: needs a worker with X set'",
    ],
    ["are not due yet", "update ai_email_queue set scheduled_for = now() + interval '1 hour'"],
    ["await approval", "update ai_email_queue set status = 'awaiting_approval'"],
    ["are paused", "select brainops.pause('ai_email_queue', p_tenant => 'tenant-a')"],
    ["are a suspended tenant's", "update tenants set status = 'suspended' where slug = 'tenant-a'"],
  ])("is not reported for rows that %s", async (_name, statement) => {
    await insert("tenantA", 3);
    await db.setClock("90 seconds");
    expect(await readyz()).toHaveLength(1);
    await db.query(statement);
    expect(await readyz()).toEqual([]);
    await db.query("delete from brainops.pauses");
    await db.query("update tenants set status = 'active'");
  });

  it("is not reported because a client inserts rows that have been due since last year", async () => {
    await db.as(
      "tenantB",
      `insert into ai_email_queue (recipient, subject, body, scheduled_for, created_at)
       values ('p@example.com', 's', 'b', now() - interval '1 year', now() - interval '1 year')`,
    );
    expect(await readyz()).toEqual([]);
  });
});

describe.skipIf(!isServer)("a stall (needs server processes)", () => {
  it.each([
    ["share row exclusive", /^2 rows of ai_email_queue due, and none was claimed/],
    ["access exclusive", /^no row of ai_email_queue was claimed.*, and another transaction has locked the table$/],
  ])(
    "because of a lock in %s mode is reported, and is over when the lock is gone",
    async (mode, text) => {
      const ids = (await insert("tenantA", 2)).map(({ id }) => id);
      const holder = await db.connect("superuser");
      await holder.query(`begin; lock table ai_email_queue in ${mode} mode`);
      worker = await startTestWorker(db, simulator);
      await db.until(
        "select exists (select from pg_stat_activity where application_name = 'brainops worker' and wait_event_type = 'Lock')",
      );
      await db.setClock("90 seconds");
      expect(await readyz()).toEqual([expect.stringMatching(text)]);
      expect(await metrics()).toMatch(/^brainops_stalled_seconds\{table="ai_email_queue"\} \d/m);
      expect(await doctor()).toEqual([
        { name: "stall", state: "bad", detail: expect.stringContaining("ai_email_queue") },
      ]);

      await holder.query("commit");
      await db.until("select bool_and(status = 'completed') from ai_email_queue where id = any ($1)", [ids], 30_000);
      await db.until("select exists (select from brainops.job_claims where table_name = 'ai_email_queue')");
      expect([await readyz(), await doctor()]).toEqual([[], well]);
    },
    90_000,
  );

  it("names to admins which process blocks", async () => {
    await insert("tenantA", 2);
    const holder = await hold("share row exclusive");
    worker = await startTestWorker(db, simulator);
    await db.setClock("90 seconds");
    const { rows } = await holder.query<{ pid: number; login: string }>(
      "select pg_backend_pid() as pid, session_user as login",
    );
    const blocked = `process ${rows[0]?.pid} of ${rows[0]?.login} blocks brainops worker`;
    await expect
      .poll(doctor, { timeout: 30_000 })
      .toEqual([{ name: "stall", state: "bad", detail: expect.stringContaining(blocked) }]);
    await holder.query("commit");
  }, 60_000);

  it("cannot be simulated by a tenant that locks its own rows", async () => {
    await insert("tenantB", 3);
    await db.setClock("90 seconds");
    expect(await readyz()).toHaveLength(1);
    const client = await db.connect("tenantB");
    await client.query("begin; select from ai_email_queue for update");
    expect(await readyz()).toEqual([]);
    await client.query("rollback");
    expect(await readyz()).toHaveLength(1);
  });

  it("does not make /readyz hang if its own question waits for a lock", async () => {
    const holder = await hold("access exclusive", "brainops.job_claims");
    expect(await readyz()).toEqual(["cannot read whether rows are claimed: Postgres is waiting for a lock"]);
    expect(await metrics()).toMatch(/^brainops_queues_readable 0$/m);
    await holder.query("rollback");
    expect(await readyz()).toEqual([]);
  });
});
