// Rate limits, with exact times: at most burst + rate × t rows in any window, and a row waits once.
import fc from "fast-check";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claim, insertMail, mail } from "../support/jobs.ts";

const START = Date.parse("2030-01-01T00:00:00Z");

let db: TestDatabase;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
});

afterEach(async () => {
  await db.query("delete from brainops.rate_limits");
  await db.query("delete from ai_email_queue");
});

afterAll(() => db.close());

const limit = (tenantId: string | null, perSecond: number, burst: number): Promise<unknown> =>
  db.as(
    "admin",
    "insert into brainops.rate_limits (table_name, tenant_id, per_second, burst) values ('ai_email_queue', $1, $2, $3)",
    [tenantId, perSecond, burst],
  );

async function insertAt(tenantId: string, at: number, count: number): Promise<void> {
  await db.query(
    `insert into ai_email_queue (tenant_id, recipient, subject, body, scheduled_for)
     select $1, 'ann@example.com', 's', 'b', $2 from generate_series(1, $3)`,
    [tenantId, new Date(at), count],
  );
}

/** When rows went and how often each was held back, if every row is claimed at the moment it is due. */
async function run(
  arrivals: readonly { readonly at: number; readonly count: number; readonly tenantId: string }[],
): Promise<{
  readonly gone: { readonly at: number; readonly tenantId: string }[];
  readonly held: Map<string, number>;
}> {
  const gone: { at: number; tenantId: string }[] = [];
  const held = new Map<string, number>();
  const waiting = [...arrivals];
  let now = START;
  for (let turns = 0; turns < 500; turns += 1) {
    const [row] = await db.query<{ next: Date | null }>(
      "select min(scheduled_for) as next from ai_email_queue where status = 'pending'",
    );
    // Rounded up to a millisecond, the resolution of this test's clock.
    const next = row?.next === null || row?.next === undefined ? Infinity : row.next.getTime() + 1;
    now = Math.max(now, Math.min(next, ...waiting.map((arrival) => arrival.at)));
    if (now === Infinity) return { gone, held };
    await setNow(db, new Date(now));
    for (const arrival of waiting.splice(0)) {
      if (arrival.at <= now) await insertAt(arrival.tenantId, now, arrival.count);
      else waiting.push(arrival);
    }
    for (const tenantId of [db.tenantA, db.tenantB]) {
      const due = await db.query<{ id: string }>(
        "select id from ai_email_queue where status = 'pending' and tenant_id = $1 and scheduled_for <= $2",
        [tenantId, new Date(now)],
      );
      for (const answer of await claim(
        worker,
        tenantId,
        due.map((mailRow) => mailRow.id),
      )) {
        if (answer.outcome === "go") gone.push({ at: now, tenantId });
        else held.set(answer.id, (held.get(answer.id) ?? 0) + 1);
      }
    }
  }
  throw new Error("rows did not all go");
}

/** Rows beyond burst + rate × t, in the worst window. */
function excess(times: readonly number[], perSecond: number, burst: number): number {
  let worst = -Infinity;
  times.forEach((from, i) =>
    times.slice(i).forEach((to, n) => {
      // A millisecond of tolerance: run() may be late by that much.
      worst = Math.max(worst, n + 1 - (burst + (perSecond * (to - from + 1)) / 1000));
    }),
  );
  return worst;
}

describe("a rate limit", () => {
  it.each([["of one tenant"], ["of all together"]])(
    "%s is kept in every window, and each row waits once at most",
    async (whose) => {
      const arrival = fc.record({
        at: fc.integer({ min: START, max: START + 4000 }),
        count: fc.integer({ min: 1, max: 6 }),
        toB: fc.boolean(),
      });
      await fc.assert(
        fc.asyncProperty(
          fc.integer({ min: 1, max: 20 }),
          fc.integer({ min: 1, max: 5 }),
          fc.array(arrival, { minLength: 1, maxLength: 6 }),
          async (perSecond, burst, arrivals) => {
            await db.query("delete from brainops.rate_limits");
            await db.query("delete from ai_email_queue");
            const everyone = whose === "of all together";
            await limit(everyone ? null : db.tenantA, perSecond, burst);
            const { gone, held } = await run(
              arrivals.map(({ at, count, toB }) => ({ at, count, tenantId: toB ? db.tenantB : db.tenantA })),
            );
            const limited = gone.filter((row) => everyone || row.tenantId === db.tenantA);
            expect(gone).toHaveLength(arrivals.reduce((sum, { count }) => sum + count, 0));
            expect(
              excess(
                limited.map((row) => row.at),
                perSecond,
                burst,
              ),
            ).toBeLessThanOrEqual(0);
            expect(Math.max(0, ...held.values())).toBeLessThanOrEqual(1);
          },
        ),
        { numRuns: 12 },
      );
    },
    120_000,
  );

  it("is what the check above detects: without one, all rows go at once", async () => {
    const { gone } = await run([{ at: START, count: 10, tenantId: db.tenantA }]);
    expect(
      excess(
        gone.map((row) => row.at),
        1,
        1,
      ),
    ).toBeGreaterThan(8);
  });

  it("of the tenant and of all: the later slot counts", async () => {
    await limit(null, 1, 1);
    await limit(db.tenantA, 0.5, 1);
    const { gone } = await run([{ at: START, count: 3, tenantId: db.tenantA }]);
    expect(gone.map((row) => Math.round((row.at - START) / 100) / 10)).toEqual([0, 2, 4]);
  });

  it("records on the row what it waits for; a row that missed its slot must wait again", async () => {
    await limit(db.tenantA, 1, 1);
    await setNow(db, new Date(START));
    await insertAt(db.tenantA, START, 3);
    const ids = (await db.query<{ id: string }>("select id from ai_email_queue order by id")).map((row) => row.id);
    const answers = await claim(worker, db.tenantA, ids);
    expect(answers.map((answer) => answer.outcome).toSorted()).toEqual(["go", "slot", "slot"]);
    const waiting = answers.filter((answer) => answer.outcome === "slot").map((answer) => answer.id);
    expect(await mail(db, waiting[0] ?? "")).toMatchObject({
      status: "pending",
      last_error: "rate limit",
      attempts: 0,
    });
    // Ten minutes later, after a pause: no burst.
    await setNow(db, new Date(START + 600_000));
    expect((await claim(worker, db.tenantA, waiting)).map((answer) => answer.outcome).toSorted()).toEqual([
      "go",
      "slot",
    ]);
    await setNow(db, null);
  });

  it("is set by admins, and neither seen nor changed by tenants", async () => {
    for (const text of [
      "select * from brainops.rate_limits",
      "update brainops.rate_limits set per_second = 1000",
      "delete from brainops.rate_limits",
    ]) {
      await expect(db.as("tenantA", text)).rejects.toMatchObject({ code: "42501" });
    }
    await limit(db.tenantA, 5, 5);
    await expect(limit(db.tenantA, 6, 5)).rejects.toMatchObject({ code: "23505" });
    await expect(limit(db.tenantB, 0, 5)).rejects.toMatchObject({ code: "23514" });
    expect(await insertMail(db, "tenantA")).toBeTruthy();
  });
});
