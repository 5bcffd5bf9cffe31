// Rows whose workers died: what the deaths cost them, and how a row that may be the cause is claimed.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { asWorker, claim, insertMail, jobsOf, mail, settle } from "../support/jobs.ts";
import { letMarketingGo } from "../support/marketing.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;
let one: pg.Client;
let two: pg.Client;

const idempotent = "update brainops.job_tables set effect_is_idempotent = $1 where table_name = 'ai_email_queue'";

beforeAll(async () => {
  db = await createTestDatabase();
  [one, two] = await Promise.all([db.connect("worker"), db.connect("worker")]);
  await letMarketingGo(db);
  await db.query("select brainops.announce_public_url('https://ops.example')");
});

beforeEach(() => db.query(idempotent, [true]));

afterEach(() => db.query("delete from ai_email_queue"));

afterAll(() => db.close());

/** Claims the row alone or not, and lets the worker die. Returns the claim's verdict. */
async function die(id: string, alone: boolean): Promise<string | undefined> {
  const worker = randomUUID();
  const [answer] = await claim(one, db.tenantA, [id], worker, alone);
  await two.query(
    "select brainops_internal.settle_rows_of_dead_worker(j, $1, 'it died') from brainops.job_tables as j where table_name = 'ai_email_queue'",
    [worker],
  );
  return answer?.outcome;
}

/** A row that was in flight at two deaths. */
async function suspect(): Promise<string> {
  const id = await insertMail(db, "tenantA");
  for (const _ of [1, 2]) expect(await die(id, false)).toBe("go");
  return id;
}

describe("a row that was in flight when its worker died", () => {
  it("gets its attempt back, and goes on", async () => {
    const id = await insertMail(db, "tenantA", { max_attempts: 1 });
    expect(await die(id, false)).toBe("go");
    expect(await mail(db, id)).toMatchObject({
      status: "pending",
      attempts: 0,
      worker_deaths: 1,
      last_error: "it died",
    });
    expect(await jobsOf(db, id)).toHaveLength(1);
    expect(await claim(one, db.tenantA, [id])).toMatchObject([{ outcome: "go", attempt: 1 }]);
  });

  it("is claimed alone after the second death, and fails with the third", async () => {
    const id = await suspect();
    const beside = await insertMail(db, "tenantA");
    const before = await mail(db, id);
    expect(await claim(one, db.tenantA, [id, beside])).toEqual([
      { id, outcome: "alone", lease: null, attempt: null, reason: null },
      expect.objectContaining({ id: beside, outcome: "go" }),
    ]);
    expect(await mail(db, id)).toEqual(before);
    expect(await die(id, true)).toBe("go");
    expect(await mail(db, id)).toMatchObject({
      status: "failed",
      attempts: 1,
      last_error: "its worker died 3 times while it was in flight, the last time while it ran alone: it died",
    });
    // A client that runs it again must not kill two more workers.
    await db.as("tenantA", "update ai_email_queue set status = 'pending' where id = $1", [id]);
    expect(await claim(one, db.tenantA, [id])).toMatchObject([{ outcome: "alone" }]);
    expect(await die(id, true)).toBe("go");
    expect(await mail(db, id)).toMatchObject({ status: "failed", worker_deaths: 4 });
  });

  it("may run beside others again if it ends alone", async () => {
    const id = await suspect();
    const [answer] = await claim(one, db.tenantA, [id], randomUUID(), true);
    await settle(one, db.tenantA, [
      { id, lease: answer?.lease ?? null, outcome: "retry", run_at: new Date(0), reason: "…" },
    ]);
    expect(await mail(db, id)).toMatchObject({ status: "pending", attempts: 1, worker_deaths: 1 });
    expect(await claim(one, db.tenantA, [id])).toMatchObject([{ outcome: "go", attempt: 2 }]);
  });

  it("is unconfirmed if its effect cannot be repeated, alone too", async () => {
    await db.query(idempotent, [false]);
    const id = await insertMail(db, "tenantA");
    for (const alone of [false, false, true]) {
      expect(await die(id, alone)).toBe("go");
      expect(await mail(db, id)).toMatchObject({ status: "unconfirmed", last_error: "it died" });
      await db.as("admin", "select brainops.confirm('ai_email_queue', $1, false)", [id]);
    }
    expect(await claim(one, db.tenantA, [id])).toMatchObject([{ outcome: "alone" }]);
  });

  it("stays cancelled, if that was requested", async () => {
    const id = await suspect();
    const worker = randomUUID();
    await claim(one, db.tenantA, [id], worker, true);
    await db.as("tenantA", "update ai_email_queue set status = 'cancelled' where id = $1", [id]);
    await two.query("select brainops_internal.settle_suspect('ai_email_queue', $1, 'it died', false)", [worker]);
    expect(await mail(db, id)).toMatchObject({ status: "cancelled" });
  });

  it("hides the count from no one, and takes it from no client", async () => {
    const id = await suspect();
    expect(await db.as("tenantA", "select worker_deaths from brainops.jobs where id = $1", [id])).toEqual([
      { worker_deaths: 2 },
    ]);
    for (const seat of ["tenantA", "service"] as const) {
      const update = db.as(seat, "update ai_email_queue set worker_deaths = 0 where id = $1", [id]);
      expect((await refusal(update)).code).toBe("42501");
    }
  });
});

describe("the death of the process that ran a suspect", () => {
  const settleSuspect = "select brainops_internal.settle_suspect('ai_email_queue', $1, 'signal SIGABRT', $2) as n";

  it("ends that row only: the worker's others are in flight still", async () => {
    const worker = randomUUID();
    const id = await suspect();
    const beside = await insertMail(db, "tenantA");
    await claim(one, db.tenantA, [id], worker, true);
    await claim(one, db.tenantA, [beside], worker);
    expect((await two.query(settleSuspect, [worker, false])).rows).toEqual([{ n: 1 }]);
    expect(await mail(db, id)).toMatchObject({ status: "failed", last_error: expect.stringMatching(/SIGABRT/) });
    expect(await mail(db, beside)).toMatchObject({ status: "processing" });
    expect((await two.query(settleSuspect, [worker, false])).rows).toEqual([{ n: 0 }]);
  });

  it("does not fail the row if another one ran there before", async () => {
    const worker = randomUUID();
    const id = await suspect();
    await claim(one, db.tenantA, [id], worker, true);
    expect((await two.query(settleSuspect, [worker, true])).rows).toEqual([{ n: 1 }]);
    expect(await mail(db, id)).toMatchObject({ status: "pending", attempts: 0, worker_deaths: 3 });
    expect(await claim(one, db.tenantA, [id])).toMatchObject([{ outcome: "alone" }]);
  });
});

describe("a suspect of a bulk", () => {
  const rowsOfBulk =
    "select id, worker_deaths from ai_email_queue where broadcast_id is not null order by worker_deaths";

  async function bulk(): Promise<{ clean: string[]; suspects: string[] }> {
    await db.as(
      "tenantA",
      `with b as (
         insert into ai_broadcasts (subject, body, status) values ('Hi', 'Hello', 'active') returning id
       )
       insert into ai_email_queue (broadcast_id, recipient, scheduled_for)
       select b.id, 'p' || i || '@example.com', '2100-01-01Z' from b, generate_series(1, 6) as i`,
    );
    await db.query(
      "update ai_email_queue set worker_deaths = 2 where id in (select id from ai_email_queue order by id limit 2)",
    );
    await db.query("update ai_email_queue set scheduled_for = now()");
    const rows = await db.query<{ id: string; worker_deaths: number }>(rowsOfBulk);
    return {
      clean: rows.filter((row) => row.worker_deaths === 0).map((row) => row.id),
      suspects: rows.filter((row) => row.worker_deaths === 2).map((row) => row.id),
    };
  }

  const claimBulk = (id: string): Promise<{ id: string; outcome: string }[]> =>
    asWorker(
      one,
      db.tenantA,
      async () =>
        (
          await one.query<{ id: string; outcome: string }>(
            "select id, outcome from brainops_internal.claim('ai_email_queue', $1, $2, p_bulk => true) order by id",
            [[id], randomUUID()],
          )
        ).rows,
    );

  it("is left out of it, has a job of its own, and brings nothing along", async () => {
    const { clean, suspects } = await bulk();
    const jobs = await jobsOf(db);
    for (const id of suspects) {
      expect(jobs.filter(({ key, payload }) => key.endsWith(id) && payload["batch"] === undefined)).toHaveLength(1);
    }
    const [id = ""] = suspects;
    expect(await claimBulk(id)).toEqual([{ id, outcome: "alone" }]);
    const [first = ""] = clean;
    expect(await claimBulk(first)).toEqual(clean.toSorted().map((cleanId) => ({ id: cleanId, outcome: "go" })));
  });

  it("gets a new job from the sweep", async () => {
    const { suspects } = await bulk();
    await db.query("delete from graphile_worker._private_jobs");
    await two.query("select * from brainops_internal.sweep()");
    const keys = (await jobsOf(db)).map(({ key }) => key);
    for (const id of suspects) expect(keys.filter((key) => key.endsWith(id))).toHaveLength(1);
  });

  it.skipIf(!isServer)("gets one from a claim that finds it locked (needs server processes)", async () => {
    const { suspects } = await bulk();
    const [id = ""] = suspects;
    await db.query("delete from graphile_worker._private_jobs");
    await two.query("begin");
    await two.query("select from ai_email_queue where id = $1 for update", [id]);
    expect(await claimBulk(id)).toEqual([]);
    await two.query("rollback");
    expect((await jobsOf(db)).map(({ key }) => key.split(":").slice(2))).toEqual([[id, "again"]]);
  });
});
