// The circuit breaker of a platform's account, which tenants share: whose failures open it, and for whom.
import fc from "fast-check";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { asWorker, beginAsWorker } from "../support/jobs.ts";
import { createModel, type Report } from "./breakerModel.ts";

const START = Date.parse("2030-01-01T00:00:00Z");
const RECORD = "select brainops_internal.record_breaker_result('sendgrid', $1, $2, 'no answer')";
const ACQUIRE = "select allowed, ask_at from brainops_internal.acquire_breaker('sendgrid', 10, '40 seconds')";

let db: TestDatabase;
let worker: pg.Client;
let other: pg.Client;
let a: string;
let b: string;
let c: string;

beforeAll(async () => {
  db = await createTestDatabase();
  [worker, other] = await Promise.all([db.connect("worker"), db.connect("worker")]);
  const [third] = await db.query<{ id: string }>("select brainops.create_tenant('tenant-c', 'Tenant C') as id");
  [a, b, c] = [db.tenantA, db.tenantB, third?.id ?? ""];
});

beforeEach(() => at(0));

afterEach(async () => {
  await setNow(db, null);
  await db.query("truncate brainops.circuit_breakers, brainops.breaker_tenants, brainops.pauses");
});

afterAll(() => db.close());

const at = (seconds: number): Promise<void> => setNow(db, new Date(START + seconds * 1000));

const report = (tenantId: string, succeeded: number, failed: number): Promise<unknown> =>
  asWorker(worker, tenantId, () => worker.query(RECORD, [succeeded, failed]));
const fails = (tenantId: string, times = 1): Promise<unknown> => report(tenantId, 0, times);
const succeeds = (tenantId: string): Promise<unknown> => report(tenantId, 1, 0);

const acquire = (tenantId: string): Promise<{ allowed: number; ask_at: Date | null } | undefined> =>
  asWorker(worker, tenantId, async () => (await worker.query(ACQUIRE)).rows[0]);
const mayGo = async (tenantId: string): Promise<boolean> => ((await acquire(tenantId))?.allowed ?? 0) > 0;

const breaker = async (): Promise<Record<string, unknown> | undefined> =>
  (
    await db.as(
      "admin",
      `select state, opened_by, failing_tenants, failures, extract(epoch from retry_at - brainops.now())::float8 as wait
       from brainops.breakers where account = 'sendgrid'`,
    )
  )[0];

describe("a platform account", () => {
  it("stays closed however often one tenant fails beside another's successes", async () => {
    for (let second = 0; second < 300; second += 30) {
      await at(second);
      await succeeds(a);
      await at(second + 10);
      await fails(b, 5);
      await fails(b);
    }
    expect(await breaker()).toMatchObject({ state: "closed", failing_tenants: ["tenant-b"] });
    expect([await mayGo(a), await mayGo(b), await mayGo(c)]).toEqual([true, true, true]);
  });

  it("opens for all when two tenants' failures reach the threshold", async () => {
    await fails(a, 3);
    await at(1);
    await fails(b);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 4 });
    await fails(b);
    expect(await breaker()).toMatchObject({ state: "open", opened_by: null, failures: 5, wait: 15 });
    expect(await breaker()).toMatchObject({ failing_tenants: ["tenant-a", "tenant-b"] });
    expect([await mayGo(a), await mayGo(b), await mayGo(c)]).toEqual([false, false, false]);
  });

  it("opens in an outage that follows successes of everyone", async () => {
    for (const tenant of [a, b, c]) await succeeds(tenant);
    await at(1);
    await fails(a, 2);
    await at(2);
    await fails(b);
    expect(await breaker()).toMatchObject({ state: "closed" });
    await fails(b, 2);
    expect(await breaker()).toMatchObject({ state: "open", opened_by: null });
  });

  it("stays closed if a third tenant succeeds after the two began to fail", async () => {
    await fails(a, 2);
    await at(1);
    await fails(b, 2);
    await at(2);
    await succeeds(c);
    await fails(a, 4);
    await fails(b, 4);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 12 });
  });

  it("is not opened by a tenant that always fails and a single failure of one that otherwise succeeds", async () => {
    for (let second = 0; second < 120; second += 5) {
      await at(second);
      await fails(b, 5);
      await succeeds(a);
      await at(second + 1);
      await fails(a);
    }
    expect(await breaker()).toMatchObject({ state: "closed" });
  });

  it("opens at the failures of its only caller, for that tenant alone", async () => {
    await succeeds(a);
    await at(90);
    await fails(b, 5);
    expect(await breaker()).toMatchObject({ state: "open", opened_by: "tenant-b", wait: 15 });
    expect(await mayGo(b)).toBe(false);
    // Another tenant may go at once, one row at a time, and its success closes the breaker.
    const first = await acquire(a);
    expect(first).toMatchObject({ allowed: 1 });
    expect(first?.ask_at?.getTime()).toBe(START + 92_000);
    expect(await mayGo(a)).toBe(false);
    await succeeds(a);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 0, opened_by: null, failing_tenants: [] });
    expect(await mayGo(b)).toBe(true);
  });

  it("stays open for all if the next tenant fails, too; what one doubled alone does not count", async () => {
    await fails(b, 5);
    let now = 0;
    for (const wait of [15, 30, 60, 120]) {
      expect(await breaker()).toMatchObject({ opened_by: "tenant-b", wait });
      now += wait;
      await at(now);
      expect(await mayGo(b)).toBe(true);
      await fails(b);
    }
    expect(await breaker()).toMatchObject({ opened_by: "tenant-b", wait: 240 });
    expect(await mayGo(a)).toBe(true);
    await fails(a);
    expect(await breaker()).toMatchObject({ state: "open", opened_by: null, wait: 15 });
    expect([await mayGo(a), await mayGo(b), await mayGo(c)]).toEqual([false, false, false]);
  });

  it("waits longer each time that two tenants' probes fail, up to max_delay", async () => {
    await fails(a, 3);
    await fails(b, 2);
    let now = 0;
    for (const wait of [15, 30, 60, 120, 240, 480, 600, 600]) {
      expect(await breaker()).toMatchObject({ opened_by: null, wait });
      now += wait;
      await at(now);
      expect(await mayGo(b)).toBe(true);
      await fails(b);
      // One tenant's probe proves nothing to the others.
      expect(await breaker()).toMatchObject({ opened_by: "tenant-b" });
      expect(await mayGo(b)).toBe(false);
      expect(await mayGo(a)).toBe(true);
      await fails(a);
    }
  });

  it("closes at the first success after a tenant took every probe and failed", async () => {
    await fails(a, 3);
    await fails(b, 2);
    await at(15);
    expect(await mayGo(b)).toBe(true);
    await fails(b);
    await at(16);
    expect(await mayGo(a)).toBe(true);
    await succeeds(a);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 0 });
  });

  it("gives the probe to another tenant if the one that has it takes longer than 5 seconds", async () => {
    await fails(a, 3);
    await fails(b, 2);
    await at(20);
    expect([await mayGo(b), await mayGo(a)]).toEqual([true, false]);
    await at(25);
    expect([await mayGo(b), await mayGo(a), await mayGo(c)]).toEqual([false, true, false]);
    // A row of a tenant that never reached the provider does not give back another tenant's probe.
    await report(b, 0, 0);
    expect(await mayGo(c)).toBe(false);
    await report(a, 0, 0);
    expect(await mayGo(c)).toBe(true);
  });

  it("takes its window, threshold and delays from its row, which admins may change within bounds", async () => {
    await db.as(
      "admin",
      "insert into brainops.circuit_breakers (account, failure_window, threshold) values ('sendgrid', '10 minutes', 2)",
    );
    await succeeds(a);
    await at(400);
    await fails(b, 9);
    expect(await breaker()).toMatchObject({ state: "closed" });
    await at(900);
    await fails(b);
    expect(await breaker()).toMatchObject({ state: "open", opened_by: "tenant-b" });
    await expect(
      db.as("admin", "update brainops.circuit_breakers set failure_window = '1 second'"),
    ).rejects.toMatchObject({ constraint: "circuit_breakers_window_bounded" });
  });

  it("has no failures once an admin has deleted its row", async () => {
    await fails(a, 4);
    await db.as("admin", "delete from brainops.circuit_breakers");
    await fails(a, 4);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 4 });
  });
});

describe("a provider that asks to wait", () => {
  const hold = (tenantId: string, seconds: number): Promise<unknown> =>
    asWorker(worker, tenantId, () =>
      worker.query("select brainops_internal.hold_account('sendgrid', $1)", [new Date(START + seconds * 1000)]),
    );

  it("holds the account for everyone, and not longer than max_delay", async () => {
    await hold(b, 3600);
    expect(await breaker()).toMatchObject({ state: "open", opened_by: null, wait: 600 });
    expect([await mayGo(a), await mayGo(b)]).toEqual([false, false]);
    await db.as("admin", "update brainops.circuit_breakers set max_delay = '2 minutes', retry_at = brainops.now()");
    await hold(b, 3600);
    expect(await breaker()).toMatchObject({ wait: 120 });
  });

  it("ends what one tenant's failures had doubled", async () => {
    await fails(b, 5);
    await db.query("update brainops.circuit_breakers set retry_at = brainops.now() + interval '10 minutes'");
    await hold(a, 20);
    expect(await breaker()).toMatchObject({ state: "open", opened_by: null, wait: 20 });
  });
});

describe("a refusal that a row may have caused", () => {
  const pause = (tenantId: string): Promise<unknown> =>
    asWorker(worker, tenantId, () =>
      worker.query("select brainops_internal.pause_account('ai_email_queue', true, 'answered 403', 'sendgrid')"),
    );
  const paused = (): Promise<unknown> =>
    db.query(
      "select coalesce(t.slug, 'everyone') as who from brainops.pauses as p left join tenants as t on t.id = p.tenant_id order by 1",
    );

  it("pauses the row's tenant, and everyone when a second tenant is refused", async () => {
    await pause(b);
    expect(await paused()).toEqual([{ who: "tenant-b" }]);
    await at(3600);
    await pause(b);
    expect(await paused()).toEqual([{ who: "tenant-b" }]);
    await pause(a);
    expect(await paused()).toEqual([{ who: "everyone" }, { who: "tenant-b" }]);
  });

  it("pauses each tenant alone if another has succeeded in between, or the first has been resumed", async () => {
    await pause(b);
    await at(60);
    await succeeds(c);
    await pause(a);
    expect(await paused()).toEqual([{ who: "tenant-a" }, { who: "tenant-b" }]);
    await db.as("admin", "select brainops.resume('ai_email_queue')");
    await at(120);
    await pause(c);
    expect(await paused()).toEqual([{ who: "tenant-c" }]);
  });
});

describe("what is stored of successes", () => {
  const stored = async (): Promise<unknown> =>
    (
      await db.query("select extract(epoch from last_success_at)::float8 * 1000 as at from brainops.breaker_tenants")
    )[0];

  it("is one time, at most every quarter of the window while nothing fails", async () => {
    await succeeds(a);
    const version = "select ctid::text from brainops.breaker_tenants";
    const [first] = await db.query(version);
    await at(14);
    await succeeds(a);
    expect(await db.query(version)).toEqual([first]);
    await at(15);
    await succeeds(a);
    expect(await stored()).toEqual({ at: START + 15_000 });
    expect(await db.query("select from brainops.circuit_breakers")).toEqual([]);
  });

  it("is nothing if the worker has just reported a success", async () => {
    await asWorker(worker, a, () =>
      worker.query("select brainops_internal.record_breaker_result('sendgrid', 1, 0, null, false)"),
    );
    expect(await stored()).toBeUndefined();
  });

  it("is deleted after a day without a call", async () => {
    await succeeds(a);
    await at(86_399);
    await fails(b);
    await at(86_401);
    await worker.query("select brainops_internal.prune_breaker_tenants()");
    expect(await db.query("select tenant_id from brainops.breaker_tenants")).toEqual([{ tenant_id: b }]);
  });

  it("cannot be read by a tenant, nor by a worker for one, and results cannot be reported by a tenant", async () => {
    await succeeds(a);
    await expect(db.as("tenantA", "select from brainops.breaker_tenants")).rejects.toMatchObject({ code: "42501" });
    await expect(db.as("tenantA", "select from brainops.breakers")).rejects.toMatchObject({ code: "42501" });
    await expect(asWorker(worker, a, () => worker.query("select from brainops.breaker_tenants"))).rejects.toMatchObject(
      { code: "42501" },
    );
    await expect(db.as("tenantA", RECORD, [0, 5])).rejects.toMatchObject({ code: "42501" });
    expect(await db.as("admin", "select account from brainops.breaker_tenants")).toEqual([{ account: "sendgrid" }]);
  });
});

it("follows its rule for any sequence of reports and claims", async () => {
  const tenants = [a, b, c];
  const step = fc.record({
    after: fc.oneof(
      fc.constantFrom(0, 1, 2),
      fc.integer({ min: 0, max: 30 }),
      fc.constantFrom(15, 59, 60, 61, 75, 76, 600),
    ),
    tenant: fc.nat({ max: 2 }),
    report: fc.oneof(
      { weight: 3, arbitrary: fc.record({ succeeded: fc.constantFrom(0, 0, 1), failed: fc.constantFrom(1, 2, 5) }) },
      { weight: 2, arbitrary: fc.constant({ succeeded: 1, failed: 0 }) },
      { weight: 1, arbitrary: fc.constant({ succeeded: 0, failed: 0 }) },
      { weight: 2, arbitrary: fc.constant(null) },
    ),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 30 }), async (steps) => {
      await db.query("truncate brainops.circuit_breakers, brainops.breaker_tenants");
      const model = createModel();
      let now = 0;
      for (const { after, tenant, report: counts } of steps) {
        now += after;
        await at(now);
        const id = tenants[tenant] ?? "";
        const went = { actual: true, expected: true };
        if (counts === null) {
          went.actual = await mayGo(id);
          went.expected = model.acquire(now, tenant);
        } else {
          await report(id, counts.succeeded, counts.failed);
          model.record(now, { tenant, ...counts } satisfies Report);
        }
        expect(went.actual).toBe(went.expected);
        const [row] = await db.query<{ opened_by: string | null; retry_at: Date | null }>(
          "select opened_by, retry_at from brainops.circuit_breakers where opened_at is not null",
        );
        const actual =
          row === undefined
            ? null
            : {
                openedBy: row.opened_by === null ? null : tenants.indexOf(row.opened_by),
                retryAt: ((row.retry_at?.getTime() ?? 0) - START) / 1000,
              };
        expect(actual).toEqual(model.open());
      }
    }),
    { numRuns: isServer ? 60 : 15 },
  );
}, 120_000);

describe.skipIf(!isServer)("two workers that report at once (need a server)", () => {
  const waits = (): Promise<void> =>
    db.until(
      "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')",
    );

  it("see each other's failures: together they open the breaker", async () => {
    await beginAsWorker(worker, a);
    await beginAsWorker(other, b);
    await worker.query(RECORD, [0, 3]);
    const second = other.query(RECORD, [0, 2]);
    await waits();
    await worker.query("commit");
    await second;
    await other.query("commit");
    expect(await breaker()).toMatchObject({ state: "open", opened_by: null, failures: 5 });
  });

  it("do not wait for each other if one reports successes while another tenant fails", async () => {
    await fails(b, 2);
    await beginAsWorker(worker, b);
    await worker.query(RECORD, [0, 2]);
    await beginAsWorker(other, a);
    await other.query(RECORD, [1, 0]);
    await other.query("commit");
    await worker.query("commit");
    expect(await breaker()).toMatchObject({ state: "closed", failures: 4 });
  });

  it("of one tenant, a success and a failure, end without a deadlock", async () => {
    await fails(a, 2);
    await beginAsWorker(worker, a);
    await beginAsWorker(other, a);
    await worker.query(RECORD, [0, 1]);
    const second = other.query(RECORD, [1, 0]);
    await waits();
    await worker.query("commit");
    await second;
    await other.query("commit");
    expect(await breaker()).toMatchObject({ state: "closed", failures: 0 });
  });
});
