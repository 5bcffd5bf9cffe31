// Pauses, suspended tenants and circuit breakers: what holds rows back, and what releases them.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { asWorker, beginAsWorker, CLAIM, claim, insertMail, jobsOf, mail, type Claim } from "../support/jobs.ts";

let db: TestDatabase;
let worker: pg.Client;
let other: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  [worker, other] = await Promise.all([db.connect("worker"), db.connect("worker")]);
});

afterEach(async () => {
  await setNow(db, null);
  await db.query("delete from brainops.pauses");
  await db.query("truncate brainops.circuit_breakers, brainops.breaker_tenants");
  await db.query("delete from ai_email_queue");
});

afterAll(() => db.close());

const forgetJobs = (): Promise<unknown> => db.query("delete from graphile_worker._private_jobs where key is not null");

async function outcomeOf(tenantId: string, id: string): Promise<string | undefined> {
  return (await claim(worker, tenantId, [id]))[0]?.outcome;
}

describe("a pause", () => {
  const cases = [
    ["of everyone", "select brainops.pause('ai_email_queue', p_reason => 'maintenance')", ["hold", "hold"]],
    ["of one tenant", "select brainops.pause('ai_email_queue', 'tenant-a', p_reason => 'maintenance')", ["hold", "go"]],
    [
      "of the channel",
      "select brainops.pause('public.ai_email_queue', null, 'email', 'maintenance')",
      ["hold", "hold"],
    ],
    ["of another channel", "select brainops.pause('ai_email_queue', null, 'sms', 'maintenance')", ["go", "go"]],
  ] as const;
  it.each(cases)("%s holds the rows that it names", async (_name, pause, expected) => {
    const [a, b] = [await insertMail(db, "tenantA"), await insertMail(db, "tenantB")];
    await db.as("admin", pause);
    expect([await outcomeOf(db.tenantA, a), await outcomeOf(db.tenantB, b)]).toEqual(expected);
  });

  it("records on the row who paused it, and why", async () => {
    const id = await insertMail(db, "tenantA");
    await db.as("admin", "select brainops.pause('ai_email_queue', p_reason => 'maintenance')");
    expect(await outcomeOf(db.tenantA, id)).toBe("hold");
    const says = expect.stringMatching(/^paused by .*: maintenance$/);
    expect(await mail(db, id)).toMatchObject({ status: "pending", attempts: 0, last_error: says });
  });

  it("keeps the sweep from restoring jobs; resume restores them", async () => {
    const id = await insertMail(db, "tenantA");
    await db.as("admin", "select brainops.pause('ai_email_queue', 'tenant-a')");
    await forgetJobs();
    await worker.query("select brainops_internal.sweep()");
    expect(await jobsOf(db, id)).toEqual([]);
    expect(await db.as("admin", "select brainops.resume('ai_email_queue', 'tenant-a')")).toEqual([{ resume: 1 }]);
    expect(await jobsOf(db, id)).toHaveLength(1);
    expect(await mail(db, id)).toMatchObject({ last_error: null });
    expect(await outcomeOf(db.tenantA, id)).toBe("go");
  });

  it("of everyone remains when that of one tenant ends", async () => {
    const id = await insertMail(db, "tenantA");
    await db.as("admin", "select brainops.pause('ai_email_queue'), brainops.pause('ai_email_queue', 'tenant-a')");
    expect(await db.as("admin", "select brainops.resume('ai_email_queue', 'tenant-a')")).toEqual([{ resume: 0 }]);
    expect(await outcomeOf(db.tenantA, id)).toBe("hold");
    expect(await db.as("admin", "select brainops.resume('ai_email_queue')")).toEqual([{ resume: 1 }]);
    expect(await outcomeOf(db.tenantA, id)).toBe("go");
  });

  it("can be set by the engine, for the current tenant or for everyone", async () => {
    const [a, b] = [await insertMail(db, "tenantA"), await insertMail(db, "tenantB")];
    const pauseSender = async (everyone: boolean): Promise<void> => {
      await beginAsWorker(worker, db.tenantA);
      await worker.query("select brainops_internal.pause_account('ai_email_queue', $1, 'the key is wrong')", [
        everyone,
      ]);
      await worker.query("commit");
    };
    await pauseSender(false);
    expect(await outcomeOf(db.tenantA, a)).toBe("hold");
    await pauseSender(true);
    expect(await outcomeOf(db.tenantB, b)).toBe("hold");
    expect(await mail(db, b)).toMatchObject({ last_error: expect.stringContaining("the key is wrong") });
  });

  it("of a suspended tenant ends with the suspension, through the sweep", async () => {
    const id = await insertMail(db, "tenantA");
    await db.as("admin", "update tenants set status = 'suspended' where slug = 'tenant-a'");
    expect(await outcomeOf(db.tenantA, id)).toBe("hold");
    expect(await mail(db, id)).toMatchObject({ last_error: "tenant tenant-a is suspended" });
    await forgetJobs();
    await worker.query("select brainops_internal.sweep()");
    expect(await jobsOf(db, id)).toEqual([]);
    await db.as("admin", "update tenants set status = 'active' where slug = 'tenant-a'");
    await worker.query("select brainops_internal.sweep()");
    expect(await jobsOf(db, id)).toHaveLength(1);
    expect(await outcomeOf(db.tenantA, id)).toBe("go");
  });
});

describe("a circuit breaker", () => {
  const START = Date.parse("2030-01-01T00:00:00Z");
  const at = (seconds: number): Promise<void> => setNow(db, new Date(START + seconds * 1000));
  // One tenant, which is the only one that calls; breaker.test.ts has several.
  const record = (succeeded: number, failed: number, tenantId = db.tenantA): Promise<unknown> =>
    asWorker(worker, tenantId, () =>
      worker.query("select brainops_internal.record_breaker_result('sendgrid', $1, $2, 'no answer')", [
        succeeded,
        failed,
      ]),
    );
  const acquire = (): Promise<unknown> =>
    asWorker(worker, db.tenantA, async () => {
      const { rows } = await worker.query<{ allowed: number }>(
        "select allowed from brainops_internal.acquire_breaker('sendgrid', 10, '40 seconds')",
      );
      return rows[0]?.allowed;
    });
  const breaker = async (): Promise<Record<string, unknown> | undefined> =>
    (
      await db.as(
        "admin",
        "select state, failures, extract(epoch from retry_at - brainops.now())::float8 as wait from brainops.breakers",
      )
    )[0];

  beforeEach(() => at(0));

  it("opens at the threshold, and a success on the way starts the count again", async () => {
    await record(0, 4);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 4 });
    await record(1, 0);
    await record(0, 4);
    await record(3, 4);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 4 });
    await record(0, 1);
    expect(await breaker()).toMatchObject({ state: "open", failures: 5, wait: 15 });
  });

  it("counts results that are reported together by their majority", async () => {
    await record(0, 4);
    await record(95, 8);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 0 });
    await record(5, 5);
    expect(await breaker()).toMatchObject({ state: "open", failures: 5, wait: 15 });
    await at(16);
    await acquire();
    await record(9, 5);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 0 });
  });

  it("lets nothing go while open, records that on the rows, and then lets one row go", async () => {
    const ids = [await insertMail(db, "tenantA"), await insertMail(db, "tenantA"), await insertMail(db, "tenantA")];
    await record(0, 5);
    expect((await claim(worker, db.tenantA, ids)).map((row) => row.outcome)).toEqual(["defer", "defer", "defer"]);
    const row = await mail(db, ids[0] ?? "");
    expect(row).toMatchObject({
      status: "pending",
      attempts: 0,
      deferrals: 0,
      last_error: "circuit breaker of sendgrid is open",
    });
    expect((row["scheduled_for"] as Date).getTime()).toBeGreaterThanOrEqual(START + 15_000);

    await at(18);
    const probing = await claim(worker, db.tenantA, ids);
    expect(probing.map((answer) => answer.outcome).toSorted()).toEqual(["defer", "defer", "go"]);
    expect(await breaker()).toMatchObject({ state: "half_open" });
    await record(1, 0);
    expect(await breaker()).toMatchObject({ state: "closed", failures: 0 });
    await at(60);
    const rest = probing.filter((answer) => answer.outcome === "defer").map((answer) => answer.id);
    expect((await claim(worker, db.tenantA, rest)).map((answer) => answer.outcome)).toEqual(["go", "go"]);
  });

  it("waits twice as long after each failed probe, up to its limit, however late the probe comes", async () => {
    await record(0, 5);
    let now = 0;
    const waits: unknown[] = [];
    for (let i = 0; i < 8; i += 1) {
      const wait = Number((await breaker())?.["wait"]);
      waits.push(wait);
      now += wait + (i === 2 ? 3600 : 0);
      await at(now);
      expect(await acquire()).toBe(1);
      await record(0, 1);
    }
    expect(waits).toEqual([15, 30, 60, 120, 240, 480, 600, 600]);
  });

  it("is not prolonged by rows that were in flight when it opened", async () => {
    await record(0, 5);
    await at(5);
    await record(0, 7);
    expect(await breaker()).toMatchObject({ state: "open", failures: 12, wait: 10 });
  });

  it("gives the probe to another row if its worker is lost", async () => {
    await record(0, 5);
    const allowed: unknown[] = [];
    for (const seconds of [14, 15, 16, 54, 55, 56]) {
      await at(seconds);
      allowed.push(await acquire());
    }
    expect(allowed).toEqual([0, 1, 0, 0, 1, 0]);
  });

  it("holds an account until the time that its provider named, and closes after one success", async () => {
    await worker.query("select brainops_internal.hold_account('sendgrid', $1)", [new Date(START + 60_000)]);
    expect(await breaker()).toMatchObject({ state: "open", failures: 0, wait: 60 });
    const id = await insertMail(db, "tenantA");
    expect(await outcomeOf(db.tenantA, id)).toBe("defer");
    await at(90);
    expect(await outcomeOf(db.tenantA, id)).toBe("go");
    // A probe that fails after a hold opens it again at once, whatever the threshold.
    await record(0, 1);
    expect(await breaker()).toMatchObject({ state: "open", failures: 1, wait: 15 });
    await at(106);
    expect(await outcomeOf(db.tenantB, await insertMail(db, "tenantB"))).toBe("go");
    await record(1, 0, db.tenantB);
    expect(await breaker()).toMatchObject({ state: "closed" });
  });

  it.skipIf(!isServer)("gives one probe to two workers that claim at once (needs a server)", async () => {
    const [a, b] = [await insertMail(db, "tenantA"), await insertMail(db, "tenantB")];
    await record(0, 4);
    await record(0, 1, db.tenantB);
    await at(20);
    await beginAsWorker(worker, db.tenantA);
    await beginAsWorker(other, db.tenantB);
    const first = (await worker.query<Claim>(CLAIM, [[a], crypto.randomUUID()])).rows;
    // The second waits for the breaker's row; the first's commit lets it see that the probe is taken.
    const second = other.query<Claim>(CLAIM, [[b], crypto.randomUUID()]);
    await db.until(
      "select exists (select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock')",
    );
    await worker.query("commit");
    expect(first).toMatchObject([{ outcome: "go" }]);
    expect((await second).rows).toMatchObject([{ outcome: "defer" }]);
    await other.query("commit");
  });
});
