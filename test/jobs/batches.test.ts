// Rows of one bulk group, claimed on two connections at once: each is claimed once.
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { asWorker, beginAsWorker, type Claim } from "../support/jobs.ts";
import { letMarketingGo } from "../support/marketing.ts";

const CLAIM_BULK =
  "select id, outcome, lease from brainops_internal.claim('ai_email_queue', $1, $2, $3, null, null, $4)";

let db: TestDatabase;
let one: pg.Client;
let two: pg.Client;
let broadcast: string;

beforeAll(async () => {
  db = await createTestDatabase();
  await letMarketingGo(db);
  // Together the tests exceed the cap of an hour.
  await db.query("insert into brainops.sending_caps (channel) values ('email')");
  await db.query("select brainops.announce_public_url('https://ops.example')");
  [one, two] = await Promise.all([db.connect("worker"), db.connect("worker")]);
});

beforeEach(async () => {
  await db.query("update brainops.job_tables set bulk_max = 1000 where table_name = 'ai_email_queue'");
  await db.query("delete from ai_email_queue");
  // The jobs of claimed rows stay, because their workers end them.
  await db.query("delete from graphile_worker._private_jobs");
  const [made] = await db.as<{ id: string }>(
    "tenantA",
    "insert into ai_broadcasts (subject, body, status) values ('Hi', 'Hello', 'active') returning id",
  );
  broadcast = made?.id ?? "";
});

afterAll(() => db.close());

async function addPeople(count: number): Promise<string[]> {
  const rows = await db.as<{ id: string }>(
    "tenantA",
    "insert into ai_email_queue (broadcast_id, recipient) select $1, 'p' || i || '@example.com' from generate_series(1, $2::int) as i returning id",
    [broadcast, count],
  );
  return rows.map(({ id }) => id);
}

const claimBulk = (client: pg.Client, ids: readonly string[], lease: string = randomUUID(), bulk = true) =>
  asWorker(
    client,
    db.tenantA,
    async () => (await client.query<Claim>(CLAIM_BULK, [ids, randomUUID(), lease, bulk])).rows,
  );

const idsOf = (claims: readonly Claim[]): string[] =>
  claims.filter(({ outcome }) => outcome === "go").map(({ id }) => id);

interface DueJob {
  readonly id: string;
  readonly run_at: Date;
}

const jobsOf = (): Promise<DueJob[]> =>
  db.query<DueJob>("select payload ->> 'id' as id, run_at from graphile_worker._private_jobs order by run_at, id");

/** Runs a due job as a worker does; false if none is due. */
async function runDueJob(client: pg.Client): Promise<boolean> {
  const [job] = await db.query<{ id: string }>(
    `delete from graphile_worker._private_jobs
     where id = (select id from graphile_worker._private_jobs where run_at <= now() order by random() limit 1 for update skip locked)
     returning payload ->> 'id' as id`,
  );
  if (job === undefined) return false;
  await claimBulk(client, [job.id]);
  return true;
}

async function countOf(status: string): Promise<number> {
  const [row] = await db.query<{ n: number }>("select count(*)::int as n from ai_email_queue where status = $1", [
    status,
  ]);
  return row?.n ?? -1;
}

describe("the jobs of a bulk group", () => {
  it("are one per thousand rows of a statement, at most four, and one per due time", async () => {
    await addPeople(900);
    expect(await jobsOf()).toHaveLength(1);
    await db.query("delete from graphile_worker._private_jobs");
    await addPeople(5001);
    expect(await jobsOf()).toHaveLength(4);
    await db.query("delete from graphile_worker._private_jobs");
    await db.as(
      "tenantA",
      `insert into ai_email_queue (broadcast_id, recipient, scheduled_for)
       select $1, 'q' || i || '@example.com', now() + make_interval(hours => i % 3) from generate_series(1, 30) as i`,
      [broadcast],
    );
    const times = (await jobsOf()).map(({ run_at }) => run_at.getTime());
    expect(new Set(times).size).toBe(3);
    expect(times).toHaveLength(3);
  });

  it("continue until nothing is due, whatever is inserted in the meantime", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ people: fc.integer({ min: 1, max: 700 }), jobs: fc.integer({ min: 0, max: 3 }) }), {
          minLength: 1,
          maxLength: 5,
        }),
        async (statements) => {
          await db.query("delete from ai_email_queue");
          await db.query("update brainops.job_tables set bulk_max = 250 where table_name = 'ai_email_queue'");
          for (const { people, jobs } of statements) {
            await addPeople(people);
            for (let nth = 0; nth < jobs; nth += 1) await runDueJob(nth % 2 === 0 ? one : two);
          }
          while (await runDueJob(one));
          expect(await countOf("pending")).toBe(0);
          expect(await countOf("processing")).toBe(statements.reduce((sum, { people }) => sum + people, 0));
        },
      ),
      { numRuns: 10 },
    );
  });

  it("are restored by the sweep, one for each group that lost them, and none if one exists", async () => {
    const ids = await addPeople(40);
    const sweep = async (): Promise<number | undefined> =>
      (
        await db.query<{ requeued: number }>(
          "select requeued from brainops_internal.sweep() where table_name = 'ai_email_queue'",
        )
      )[0]?.requeued;
    expect(await sweep()).toBe(0);
    await db.query("delete from graphile_worker._private_jobs");
    expect(await sweep()).toBe(1);
    expect(await sweep()).toBe(0);
    const [job] = await jobsOf();
    expect(ids).toContain(job?.id);
    await runDueJob(two);
    expect(await countOf("pending")).toBe(0);
    expect(await sweep()).toBe(0);
  });

  it("are restored for rows that waited for an account, but not during a pause", async () => {
    const [id = ""] = await addPeople(30);
    await db.query("delete from graphile_worker._private_jobs");
    const held = await asWorker(one, db.tenantA, () =>
      one.query<Claim>(
        "select outcome from brainops_internal.claim('ai_email_queue', $1, $2, p_missing_platform => 'no key', p_bulk => true)",
        [[id], randomUUID()],
      ),
    );
    expect(held.rows).toEqual([{ outcome: "hold" }]);
    await db.as("admin", "select brainops.pause('ai_email_queue', 'tenant-a', p_reason => 'a test')");
    await db.query("select brainops_internal.wake_rows('ai_email_queue')");
    expect(await jobsOf()).toEqual([]);
    await db.query("delete from brainops.pauses");
    await db.query("select brainops_internal.wake_rows('ai_email_queue')");
    expect(await jobsOf()).toHaveLength(1);
    await runDueJob(one);
    expect(await countOf("processing")).toBe(30);
  });
});

describe("a claim of a row of a bulk group", () => {
  it("includes the group's other due rows, up to bulk_max, and queues a job for the rest", async () => {
    const ids = await addPeople(1200);
    await db.query("update ai_email_queue set scheduled_for = now() + interval '1 hour' where id = any ($1)", [
      ids.slice(0, 100),
    ]);
    await db.query("delete from graphile_worker._private_jobs");
    const first = await claimBulk(one, [ids[500] ?? ""]);
    expect(idsOf(first)).toHaveLength(1000);
    const left = ids.slice(100).filter((id) => !idsOf(first).includes(id));
    const [job, ...others] = await jobsOf();
    expect(others).toEqual([]);
    expect(left).toContain(job?.id);
    expect(idsOf(await claimBulk(one, [job?.id ?? ""])).toSorted()).toEqual(left.toSorted());
  });

  it("includes only that row if the worker does not ask for more, or if the row has no group", async () => {
    const ids = await addPeople(5);
    expect(idsOf(await claimBulk(one, ids.slice(0, 1), randomUUID(), false))).toEqual(ids.slice(0, 1));
    const [single] = await db.as<{ id: string }>(
      "tenantA",
      "insert into ai_email_queue (recipient, subject, body) values ('s@example.com', 's', 'b') returning id",
    );
    expect(idsOf(await claimBulk(one, [single?.id ?? ""]))).toEqual([single?.id]);
  });

  it("includes no row of another broadcast or tenant, and none during a pause", async () => {
    const [id = ""] = await addPeople(3);
    await db.query(
      `with other as (insert into ai_broadcasts (tenant_id, subject, body, status) select id, 'Hi', 'Hello', 'active' from tenants returning id, tenant_id)
       insert into ai_email_queue (tenant_id, broadcast_id, recipient) select tenant_id, id, 'o@example.com' from other`,
    );
    await db.as("admin", "select brainops.pause('ai_email_queue', 'tenant-a', p_reason => 'a test')");
    expect((await claimBulk(one, [id])).map(({ outcome }) => outcome)).toEqual(["hold"]);
    await db.as("admin", "select brainops.resume('ai_email_queue', 'tenant-a')");
    await db.query("update ai_email_queue set scheduled_for = now() - interval '1 second' where broadcast_id = $1", [
      broadcast,
    ]);
    expect(idsOf(await claimBulk(one, [id]))).toHaveLength(3);
  });

  it("is undone by its lease if its response was lost, with all its rows; they are claimed again", async () => {
    const ids = await addPeople(50);
    const lease = randomUUID();
    await claimBulk(one, ids.slice(0, 1), lease);
    await asWorker(one, db.tenantA, () =>
      one.query("select brainops_internal.unclaim('ai_email_queue', $1, $2)", [ids.slice(0, 1), lease]),
    );
    const [state] = await db.query(
      "select count(*) filter (where status = 'pending' and attempts = 0)::int as pending from ai_email_queue",
    );
    expect(state).toEqual({ pending: 50 });
    await runDueJob(one);
    expect(await countOf("pending")).toBe(0);
  });
});

describe("bulk and single claims of the same rows, on two connections", () => {
  it.skipIf(!isServer)("claim each row once, in any order", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 1, max: 40 }),
        fc.array(fc.tuple(fc.nat(), fc.boolean(), fc.boolean()), { minLength: 1, maxLength: 6 }),
        async (count, claims) => {
          await db.query("delete from ai_email_queue");
          const ids = await addPeople(count);
          const gone = await Promise.all(
            [one, two].map(async (client, seat) => {
              const mine: string[] = [];
              for (const [nth, onFirst, bulk] of claims) {
                const id = ids[(nth + (onFirst === (seat === 0) ? 0 : 1)) % count] ?? "";
                mine.push(...idsOf(await claimBulk(client, [id], randomUUID(), bulk)));
              }
              return mine;
            }),
          );
          const all = gone.flat();
          expect(new Set(all).size).toBe(all.length);
          const [row] = await db.query(
            `select count(*) filter (where status = 'processing')::int as processing,
               coalesce(max(attempts), 0)::int <= 1 as once from ai_email_queue`,
          );
          expect(row).toEqual({ processing: all.length, once: true });
        },
      ),
      { numRuns: 25 },
    );
  });

  it.skipIf(!isServer)("skip a row that another claim holds, without waiting for it", async () => {
    const ids = await addPeople(10);
    await beginAsWorker(one, db.tenantA);
    await one.query(CLAIM_BULK, [ids.slice(0, 1), randomUUID(), randomUUID(), false]);
    // The lock that a claim takes. (Its gate would then wait for the other claim: both concern people.)
    const locked = await two.query("select id from ai_email_queue where id = any ($1) for update skip locked", [ids]);
    expect(locked.rows).toHaveLength(9);
    await one.query("commit");
    expect(idsOf(await claimBulk(two, ids.slice(1, 2)))).toHaveLength(9);
  });
});
