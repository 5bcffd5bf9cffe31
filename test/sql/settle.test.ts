// brainops_internal.settle: what each outcome does to a row, and whose result counts; then rows whose worker is gone.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { asWorker, claim, claimOne, insertMail, jobsOf, mail, settle } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;
let one: pg.Client;
let two: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  [one, two] = await Promise.all([db.connect("worker"), db.connect("worker")]);
});

afterEach(() => db.query("delete from ai_email_queue"));

afterAll(() => db.close());

async function insertMails(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < count; i += 1) ids.push(await insertMail(db, "tenantA"));
  return ids;
}

describe("settle", () => {
  const outcomes = [
    [
      { outcome: "completed", result: { sent_at: "2026-05-01Z", provider_message_id: "m1" } },
      { status: "completed", last_error: null, provider_message_id: "m1", sent_at: new Date("2026-05-01Z") },
    ],
    [
      { outcome: "completed", result: { status: "failed", attempts: 9 } },
      { status: "completed", attempts: 1 },
    ],
    [
      { outcome: "fail", reason: "no such mailbox" },
      { status: "failed", last_error: "no such mailbox" },
    ],
    [
      { outcome: "skip", reason: "expired" },
      { status: "skipped", skip_reason: "expired" },
    ],
    [{ outcome: "skip" }, { status: "skipped", skip_reason: "no reason given" }],
    [
      { outcome: "unconfirmed", reason: "timed out" },
      { status: "unconfirmed", last_error: "timed out", finished_at: null },
    ],
    [
      { outcome: "retry", reason: "503", run_at: new Date("2100-01-01Z") },
      { status: "pending", attempts: 1, scheduled_for: new Date("2100-01-01Z"), last_error: "503" },
    ],
    [
      { outcome: "defer", reason: "429", run_at: new Date("2100-01-01Z") },
      { status: "pending", attempts: 0, deferrals: 1, scheduled_for: new Date("2100-01-01Z") },
    ],
  ] as const;
  it.each(outcomes)("writes %j", async (outcome, expected) => {
    const [id = ""] = await insertMails(1);
    const lease = await claimOne(one, db.tenantA, id);
    expect(await settle(one, db.tenantA, [{ id, lease, ...outcome }])).toEqual({ [id]: expected.status });
    expect(await mail(db, id)).toMatchObject({ ...expected, lease: null, worker_id: null });
  });

  it("twice, late, with a foreign lease or as another tenant changes nothing", async () => {
    const [id = ""] = await insertMails(1);
    const lease = await claimOne(one, db.tenantA, id);
    expect(await settle(one, db.tenantA, [{ id, lease: randomUUID(), outcome: "fail" }])).toEqual({});
    expect(await settle(one, db.tenantA, [{ id, lease: null, outcome: "fail" }])).toEqual({});
    expect(await settle(one, db.tenantB, [{ id, lease, outcome: "fail" }])).toEqual({});
    expect(await settle(one, db.tenantA, [{ id, lease, outcome: "retry", run_at: new Date(0) }])).toEqual({
      [id]: "pending",
    });
    const next = await claimOne(two, db.tenantA, id);
    expect(await settle(one, db.tenantA, [{ id, lease, outcome: "completed" }])).toEqual({});
    expect(await mail(db, id)).toMatchObject({ status: "processing", lease: next, attempts: 2 });
    expect(await settle(two, db.tenantA, [{ id, lease: next, outcome: "completed" }])).toEqual({ [id]: "completed" });
    expect(await settle(two, db.tenantA, [{ id, lease: next, outcome: "fail" }])).toEqual({});
    expect(await mail(db, id)).toMatchObject({ status: "completed" });
  });

  it("as retry waits longer each time and gives up at max_attempts", async () => {
    const id = await insertMail(db, "tenantA", { max_attempts: 4 });
    const waits: number[] = [];
    for (let attempt = 1; attempt <= 3; attempt += 1) {
      const lease = await claimOne(one, db.tenantA, id);
      expect(await settle(one, db.tenantA, [{ id, lease, outcome: "retry", reason: `attempt ${attempt}` }])).toEqual({
        [id]: "pending",
      });
      const [wait] = await db.query<{ s: number }>(
        "select extract(epoch from scheduled_for - now())::float8 as s from ai_email_queue where id = $1",
        [id],
      );
      waits.push(wait?.s ?? 0);
      expect((await jobsOf(db, id))[0]?.run_at).toEqual((await mail(db, id))["scheduled_for"]);
      await db.query("update ai_email_queue set scheduled_for = now() where id = $1", [id]);
    }
    for (const [i, seconds] of [15, 60, 240].entries()) {
      expect(waits[i]).toBeGreaterThan(seconds * 0.8 - 5);
      expect(waits[i]).toBeLessThan(seconds * 1.2 + 1);
    }
    const last = await claimOne(one, db.tenantA, id);
    expect(await settle(one, db.tenantA, [{ id, lease: last, outcome: "retry", reason: "attempt 4" }])).toEqual({
      [id]: "failed",
    });
    expect(await mail(db, id)).toMatchObject({ attempts: 4, last_error: "attempt 4", finished_at: expect.any(Date) });
  });

  it("as defer uses no attempt and gives up at max_deferrals", async () => {
    await db.query("update brainops.job_tables set max_deferrals = 2 where table_name = 'ai_email_queue'");
    const id = await insertMail(db, "tenantA", { max_attempts: 1 });
    const statuses: (string | undefined)[] = [];
    for (let i = 0; i < 3; i += 1) {
      const lease = await claimOne(one, db.tenantA, id);
      const settled = await settle(one, db.tenantA, [
        { id, lease, outcome: "defer", run_at: new Date(0), reason: "later" },
      ]);
      statuses.push(settled[id]);
    }
    expect(statuses).toEqual(["pending", "pending", "failed"]);
    expect(await mail(db, id)).toMatchObject({ attempts: 0, deferrals: 3 });
    await db.query("update brainops.job_tables set max_deferrals = 500 where table_name = 'ai_email_queue'");
  });

  it("gives a row that is retried a job beside the one that is still running it", async () => {
    const [id = ""] = await insertMails(1);
    await db.query(
      "update graphile_worker._private_jobs set locked_at = now(), locked_by = 'a worker' where key like '%' || $1",
      [id],
    );
    const lease = await claimOne(one, db.tenantA, id);
    await settle(one, db.tenantA, [{ id, lease, outcome: "retry", run_at: new Date("2100-01-01Z") }]);
    expect(await jobsOf(db, id)).toMatchObject([{ run_at: new Date("2100-01-01Z"), attempts: 0 }]);
  });
});

describe("a request to cancel what is being processed", () => {
  const cancel = "update ai_email_queue set status = 'cancelled' where id = $1 returning status";
  it.each([
    ["retry", "cancelled"],
    ["defer", "cancelled"],
    ["completed", "completed"],
    ["fail", "failed"],
    ["unconfirmed", "unconfirmed"],
  ] as const)("leaves it in processing, and with %s it is %s", async (outcome, status) => {
    const [id = ""] = await insertMails(1);
    const lease = await claimOne(one, db.tenantA, id);
    expect(await db.as("tenantA", cancel, [id])).toEqual([{ status: "processing" }]);
    expect(await settle(one, db.tenantA, [{ id, lease, outcome, reason: "…" }])).toEqual({ [id]: status });
  });
});

describe("a row whose worker is lost", () => {
  const abandon =
    "select brainops_internal.settle_rows_of_dead_worker(j, $1, 'its worker died') as rows from brainops.job_tables as j where table_name = 'ai_email_queue'";
  const lose =
    "select brainops_internal.settle_abandoned_rows(j, '0', 'lost') as rows from brainops.job_tables as j where table_name = 'ai_email_queue'";
  const idempotent = "update brainops.job_tables set effect_is_idempotent = $1 where table_name = 'ai_email_queue'";

  afterEach(() => db.query(idempotent, [false]));

  it("is unconfirmed if its effect cannot be repeated, and settled by a person", async () => {
    const worker = randomUUID();
    const [id = "", other = "", third = ""] = await insertMails(3);
    const lease = await claimOne(one, db.tenantA, id, worker);
    await claimOne(one, db.tenantA, third, worker);
    await claimOne(one, db.tenantA, other);
    expect((await two.query(abandon, [worker])).rows).toEqual([{ rows: 2 }]);
    expect(await mail(db, id)).toMatchObject({ status: "unconfirmed", last_error: "its worker died", lease: null });
    expect(await mail(db, other)).toMatchObject({ status: "processing" });
    expect(await settle(one, db.tenantA, [{ id, lease, outcome: "completed" }])).toEqual({});
    expect(await claim(two, db.tenantA, [id])).toEqual([]);

    expect(await db.as("tenantA", "select brainops.confirm('ai_email_queue', $1, true) as status", [id])).toEqual([
      { status: "completed" },
    ]);
    expect(await db.as("admin", "select brainops.confirm('ai_email_queue', $1, false) as status", [third])).toEqual([
      { status: "pending" },
    ]);
    expect(await claim(two, db.tenantA, [id, third])).toMatchObject([{ id: third, outcome: "go", attempt: 1 }]);
    expect((await refusal(db.as("admin", "select brainops.confirm('ai_email_queue', $1, true)", [id]))).code).toBe(
      "OP010",
    );
  });

  it("is retried if its effect can be repeated, until its attempts are used up or it is cancelled", async () => {
    await db.query(idempotent, [true]);
    const id = await insertMail(db, "tenantA", { max_attempts: 2 });
    const cancelled = await insertMail(db, "tenantA");
    for (const status of ["pending", "failed"]) {
      await claimOne(one, db.tenantA, id);
      expect((await two.query(lose)).rows).toEqual([{ rows: 1 }]);
      expect(await mail(db, id)).toMatchObject({ status, worker_deaths: 0 });
    }
    await claimOne(one, db.tenantA, cancelled);
    await db.as("tenantA", "update ai_email_queue set status = 'cancelled' where id = $1", [cancelled]);
    await two.query(lose);
    expect(await mail(db, cancelled)).toMatchObject({ status: "cancelled", finished_at: expect.any(Date) });
  });

  it("is returned by unclaim if its effect has not begun, with its own lease only", async () => {
    const worker = randomUUID();
    const [id = ""] = await insertMails(1);
    await claimOne(one, db.tenantA, id, worker);
    const [row] = await db.query<{ lease: string }>("select lease from ai_email_queue where id = $1", [id]);
    const lease = row?.lease ?? "";
    const unclaim = (tenantId: string, by: string): Promise<unknown> =>
      asWorker(one, tenantId, () =>
        one.query("select brainops_internal.unclaim('ai_email_queue', $1, $2)", [[id], by]),
      );
    await unclaim(db.tenantA, randomUUID());
    await unclaim(db.tenantA, worker);
    await unclaim(db.tenantB, lease);
    expect(await mail(db, id)).toMatchObject({ status: "processing", attempts: 1 });
    await unclaim(db.tenantA, lease);
    expect(await mail(db, id)).toMatchObject({ status: "pending", attempts: 0, lease: null });
    expect(await jobsOf(db, id)).toHaveLength(1);
  });
});
