import { randomUUID } from "node:crypto";
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createPool } from "../../src/db/pool.ts";
import { createHoldUps } from "../../src/jobs/holdUps.ts";
import { createStore, type Store } from "../../src/jobs/store.ts";
import type { Claimed, JobTable } from "../../src/jobs/types.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { log } from "../support/worker.ts";

let db: TestDatabase;
let pool: pg.Pool;
let store: Store;
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
  pool = createPool({ connectionString: db.urlOf("worker"), applicationName: "test", pipeline: true, max: 3 });
  store = createStore(pool, randomUUID(), createHoldUps(log));
});

beforeEach(() => db.query("delete from brainops.circuit_breakers"));

afterAll(async () => {
  await pool.end();
  await db.close();
});

async function claimed(n: number): Promise<(Claimed | undefined)[]> {
  const rows = await db.as<{ id: string }>(
    "tenantA",
    "insert into ai_email_queue (recipient, subject, body) select 'p@example.com', 's', 'b' from generate_series(1, $1::int) returning id",
    [n],
  );
  return (await Promise.all(rows.map(({ id }) => store.claim(table, db.tenantA, id)))).map(([row]) => row);
}

const settle = (
  row: Claimed | undefined,
  outcome: Parameters<Store["settle"]>[3]["outcome"],
  providerCalled = true,
) => {
  if (row === undefined) throw new Error("not claimed");
  return store.settle(table, db.tenantA, row, { outcome, providerCalled });
};

describe("settling many rows at once", () => {
  it("keeps the other outcomes if Postgres refuses one", async () => {
    const [a, b, c] = await claimed(3);
    const statuses = await Promise.all([
      settle(a, { kind: "completed", result: { provider_message_id: "fine" } }),
      settle(b, { kind: "completed", result: { provider_message_id: "a\u0000b" } }),
      settle(c, { kind: "fail", reason: "no" }),
    ]);
    expect(statuses).toEqual(["completed", "unconfirmed", "failed"]);
    const [row] = await db.query("select last_error from ai_email_queue where id = $1", [b?.row.id]);
    expect(row?.["last_error"]).toMatch(/^its outcome \(completed\) could not be written: /);
  });

  it("writes a common outcome once, and only to rows whose lease still holds", async () => {
    const rows = await claimed(60);
    const lost = rows[7]?.row.id;
    await db.query("update ai_email_queue set status = 'unconfirmed', lease = null, worker_id = null where id = $1", [
      lost,
    ]);
    const sent = { kind: "completed", result: { provider_message_id: "shared", sent_at: new Date(0) } } as const;
    const plain = { kind: "completed" } as const;
    const statuses = await Promise.all(rows.map((row, index) => settle(row, index < 30 ? sent : plain)));
    expect(statuses).toEqual(rows.map((row) => (row?.row.id === lost ? null : "completed")));
    const after = await db.query(
      `select status, provider_message_id, extract(epoch from sent_at)::int as sent, lease, count(*)::int as n
       from ai_email_queue where id = any ($1) group by 1, 2, 3, 4 order by 1, 2`,
      [rows.map((row) => row?.row.id)],
    );
    expect(after).toEqual([
      { status: "completed", provider_message_id: "shared", sent: 0, lease: null, n: 29 },
      { status: "completed", provider_message_id: null, sent: null, lease: null, n: 30 },
      { status: "unconfirmed", provider_message_id: null, sent: null, lease: null, n: 1 },
    ]);
  });

  it("keeps the other outcomes if Postgres refuses a common one", async () => {
    const rows = await claimed(25);
    const refused = { kind: "completed", result: { provider_message_id: "a\u0000b" } } as const;
    const statuses = await Promise.all(
      rows.map((row, index) => settle(row, index === 24 ? { kind: "skip", reason: "no" } : refused)),
    );
    expect(statuses).toEqual([...Array.from({ length: 24 }, () => "unconfirmed"), "skipped"]);
  });

  it("writes a reason that is truncated within a character", async () => {
    const [row] = await claimed(1);
    expect(await settle(row, { kind: "fail", reason: `${"x".repeat(1999)}😀` })).toBe("failed");
    const [after] = await db.query("select last_error from ai_email_queue where id = $1", [row?.row.id]);
    expect(after).toEqual({ last_error: `${"x".repeat(1999)}\uFFFD` });
  });

  it("fails a row at once if the task's own query does not return it", async () => {
    const otherPool = createPool({ connectionString: db.urlOf("worker"), applicationName: "test", pipeline: true });
    const other = createStore(otherPool, randomUUID(), createHoldUps(log));
    const [row] = await db.as<{ id: string }>(
      "tenantA",
      "insert into ai_email_queue (recipient, subject, body) values ('p@example.com', 's', 'b') returning id",
    );
    const leavesOut = { ...table, load: `${table.load} and false` };
    expect(await other.claim(leavesOut, db.tenantA, row?.id ?? "")).toEqual([]);
    const [after] = await db.query("select status, last_error from ai_email_queue where id = $1", [row?.id]);
    expect(after).toEqual({
      status: "failed",
      last_error: "the query of task email__send returns nothing for the row",
    });
    await otherPool.end();
  });

  it("claims a row once, however often it is requested at the same time", async () => {
    const [first] = await claimed(1);
    const id = first?.row.id ?? "";
    await settle(first, { kind: "retry", reason: "later", at: new Date(0) });
    const again = await Promise.all([1, 2, 3].map(() => store.claim(table, db.tenantA, id)));
    expect(again.flat()).toHaveLength(1);
  });
});

describe("what outcomes count for the provider account", () => {
  const breaker = async (): Promise<unknown> => (await db.query("select state, failures from brainops.breakers"))[0];
  const openBreaker = (until: string): Promise<unknown> =>
    db.query(
      `insert into brainops.circuit_breakers (account, failures, opened_at, retry_at) values ('sendgrid', 5, now(), now() + interval '${until}')`,
    );

  it("a row that failed before its effect does not count, and passes the probe to another", async () => {
    await openBreaker("-1 second");
    const [probe] = await claimed(1);
    expect(await breaker()).toEqual({ state: "half_open", failures: 5 });
    await settle(probe, { kind: "fail", reason: "bad Liquid" }, false);
    expect(await breaker()).toEqual({ state: "open", failures: 5 });
    const [second] = await claimed(1);
    await settle(second, { kind: "completed" });
    expect(await breaker()).toEqual({ state: "closed", failures: 0 });
  });

  it("a success of a row that was in flight does not end the wait that the provider requested", async () => {
    const [early, late] = await claimed(2);
    await settle(late, { kind: "defer", reason: "429", at: new Date(Date.now() + 600_000), holdsAccount: true });
    await settle(early, { kind: "completed" });
    expect(await breaker()).toEqual({ state: "open", failures: 0 });
  });
});
