// What a worker does while functions are replaced under it.
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";
import { FunctionGoneError } from "../../src/db/deployment.ts";
import { ProgramTooOldError } from "../../src/db/migrate/index.ts";
import { createPool } from "../../src/db/pool.ts";
import { runAsTenant } from "../../src/db/tenant.ts";
import { createHoldUps } from "../../src/jobs/holdUps.ts";
import { createStore, type Store } from "../../src/jobs/store.ts";
import type { Claimed, JobTable } from "../../src/jobs/types.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { log } from "../support/worker.ts";
import { insertMail } from "../support/jobs.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let pool: pg.Pool;
let store: Store;
let simulator: SendgridSimulator;
const table: JobTable = {
  table_name: "ai_email_queue",
  task_identifier: "email__send",
  effect_is_idempotent: false,
  time_limit_ms: 30_000,
  load: "select id, tenant_id, attempts, max_attempts from public.ai_email_queue where id = any ($1)",
  loadBulk: null,
  missingCredentials: { platform: null, tenant: null },
};

beforeAll(async () => {
  db = await createTestDatabase();
  pool = createPool({ connectionString: db.urlOf("worker"), applicationName: "test", pipeline: true, max: 1 });
  store = createStore(pool, randomUUID(), createHoldUps(log));
  simulator = await startSendgridSimulator();
});
afterEach(async () => {
  vi.restoreAllMocks();
  await show();
});
afterAll(async () => {
  await pool.end();
  await simulator.close();
  await db.close();
});

/** Renames the functions that settle, so that they are missing, as if a deployment had dropped them. */
const hide = (): Promise<object[]> => rename("^settle", "_hidden_");
const show = (): Promise<object[]> => rename("^_hidden_", "");
function rename(pattern: string, prefix: string): Promise<object[]> {
  return db.query(`
    do $$
    declare v_function record;
    begin
      for v_function in
        select p.oid::regprocedure as signature, p.proname from pg_proc as p
        where p.pronamespace::regnamespace::text like 'brainops%' and p.proname ~ '${pattern}' and p.proname !~ 'payment'
      loop
        execute format('alter function %s rename to %I', v_function.signature, '${prefix}' || replace(v_function.proname, '_hidden_', ''));
      end loop;
    end $$`);
}

/** Speeds up the process's clock: a minute takes half a second from now on. */
function speedUpClock(): void {
  const real = performance.now.bind(performance);
  const start = real();
  vi.spyOn(performance, "now").mockImplementation(() => start + (real() - start) * 120);
}

async function claimed(): Promise<Claimed> {
  const id = await insertMail(db, "tenantA");
  const [row] = await store.claim(table, db.tenantA, id);
  if (row === undefined) throw new Error("not claimed");
  return row;
}

const statusOf = async ({ row }: Claimed): Promise<unknown> =>
  (await db.query("select status from ai_email_queue where id = $1", [row.id]))[0]?.["status"];

const sent = { outcome: { kind: "completed", result: { provider_message_id: "sent" } }, providerCalled: true } as const;

describe("settling while the function is replaced", () => {
  it("waits for it on another connection, and writes the outcome", async () => {
    const row = await claimed();
    await hide();
    const dropped = once(pool, "remove");
    const settling = store.settle(table, db.tenantA, row, sent);
    await dropped;
    await show();
    expect(await settling).toBe("completed");
  });

  it("names it after a minute, and never treats the outcome as unknown", async () => {
    const row = await claimed();
    await hide();
    speedUpClock();
    const settling = store.settle(table, db.tenantA, row, sent);
    await expect(settling).rejects.toThrow(FunctionGoneError);
    await expect(settling).rejects.toThrow(
      /function brainops\w*\.settle_completed\(.*\) does not exist, for more than 60 s/,
    );
    expect(await statusOf(row)).toBe("processing");
  });
});

it("a prepared statement is prepared again if its result has another type", async () => {
  const statement = { name: "answer", text: "select brainops.answer() as answer", values: [] };
  const ask = async (): Promise<unknown> => (await runAsTenant(pool, db.tenantA, [statement]))[0]?.rows[0];
  await db.query("create function brainops.answer() returns int return 42");
  expect(await ask()).toEqual({ answer: 42 });
  const dropped = once(pool, "remove");
  await db.query("drop function brainops.answer(); create function brainops.answer() returns text return 'forty-two'");
  expect(await ask()).toEqual({ answer: "forty-two" });
  await dropped;
  await db.query("drop function brainops.answer()");
});

it("a worker whose function stays missing stops and names it", async () => {
  const worker = await startTestWorker(db, simulator);
  await hide();
  speedUpClock();
  await insertMail(db, "tenantA");
  const error = await worker.gaveUp;
  expect(error.message).toMatch(/brainops\w*\.settle/);
  expect(worker.health()).toEqual({ ok: false, reason: error.message });
  await worker.stop();
  expect(await db.query("select from brainops.workers where state = 'alive'")).toEqual([]);
});

it("a worker stops once a contracting migration has made it too old", async () => {
  const worker = await startTestWorker(db, simulator);
  await db.query("update brainops.release set oldest_program = '99.0.0'");
  const error = await worker.gaveUp;
  expect(error).toBeInstanceOf(ProgramTooOldError);
  expect(error.message).toMatch(/the database needs 99\.0\.0 or newer/);
  expect(worker.health()).toEqual({ ok: false, reason: error.message });
  await worker.stop();
  expect(await db.query("select from brainops.workers where state = 'alive'")).toEqual([]);
  await db.query("update brainops.release set oldest_program = '0.0.0'");
});
