// The state machine under random interleavings of clients, workers and their deaths, against a
// model of a few lines.
import { randomUUID } from "node:crypto";
import fc from "fast-check";
import type pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { codeOf } from "../../src/errors.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claim, insertMail, settle, type Settlement } from "../support/jobs.ts";

const MAX_ATTEMPTS = 2;
const MAX_DEFERRALS = 2;

interface Row {
  status: string;
  due: boolean;
  attempts: number;
  deferrals: number;
  deaths: number;
  cancelRequested: boolean;
  lease: string | null;
  /** Leases of earlier claims: nothing can be settled with them. */
  staleLeases: string[];
}

type Model = Map<number, Row>;

interface Real {
  readonly ids: Map<number, string>;
  readonly worker: string;
}

let db: TestDatabase;
let asWorker: pg.Client;
let asTenant: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  [asWorker, asTenant] = await Promise.all([db.connect("worker"), db.connect("tenantA")]);
  await db.query("update brainops.job_tables set max_deferrals = $1", [MAX_DEFERRALS]);
});

afterAll(() => db.close());

/** The invariants after each step, read from the database. */
async function check(model: Model, real: Real): Promise<void> {
  const rows = await db.query<Record<string, unknown>>(
    `select q.id, q.status, q.attempts, q.deferrals, q.worker_deaths, q.cancel_requested_at is not null as cancel_requested, q.lease,
       q.scheduled_for <= now() as due, count(j.id)::int as jobs
     from ai_email_queue as q
     left join graphile_worker._private_jobs as j on j.key = q.tenant_id || ':ai_email_queue:' || q.id
     group by q.id`,
  );
  expect(rows).toHaveLength(model.size);
  for (const [index, expected] of model) {
    const row = rows.find((candidate) => candidate["id"] === real.ids.get(index));
    expect(row).toMatchObject({
      status: expected.status,
      attempts: expected.attempts,
      deferrals: expected.deferrals,
      worker_deaths: expected.deaths,
      cancel_requested: expected.cancelRequested,
      lease: expected.lease,
      jobs: expected.status === "pending" ? 1 : 0,
    });
    if (expected.status === "pending") expect(row?.["due"]).toBe(expected.due);
    expect(Number(row?.["attempts"])).toBeLessThanOrEqual(MAX_ATTEMPTS);
  }
}

/** A step on one of the existing rows. */
function step(
  name: string,
  pick: number,
  run: (row: Row, id: string, real: Real) => Promise<void>,
): fc.AsyncCommand<Model, Real> {
  return {
    check: (model) => model.size > 0,
    run: async (model, real) => {
      const index = pick % model.size;
      const row = model.get(index);
      const id = real.ids.get(index);
      if (row === undefined || id === undefined) throw new Error(`no row ${index}`);
      await run(row, id, real);
      await check(model, real);
    },
    toString: () => `${name}(${pick})`,
  };
}

function insert(due: boolean): fc.AsyncCommand<Model, Real> {
  return {
    check: (model) => model.size < 4,
    run: async (model, real) => {
      const scheduled_for = due ? null : "2100-01-01Z";
      real.ids.set(model.size, await insertMail(db, "tenantA", { scheduled_for, max_attempts: MAX_ATTEMPTS }));
      model.set(model.size, {
        status: "pending",
        due,
        attempts: 0,
        deferrals: 0,
        deaths: 0,
        cancelRequested: false,
        lease: null,
        staleLeases: [],
      });
      await check(model, real);
    },
    toString: () => `insert(${due ? "due" : "later"})`,
  };
}

const claimRow = (pick: number, alone: boolean): fc.AsyncCommand<Model, Real> =>
  step(alone ? "claim alone" : "claim", pick, async (row, id, { worker }) => {
    const [answer] = await claim(asWorker, db.tenantA, [id], worker, alone);
    const verdict = row.deaths >= 2 && !alone ? "alone" : "go";
    expect(answer?.outcome).toBe(row.status === "pending" && row.due ? verdict : undefined);
    if (answer?.outcome !== "go") return;
    row.status = "processing";
    row.attempts += 1;
    row.lease = answer.lease;
    // The graphile-worker job that led here ends, as it does when its task returns.
    await db.query("delete from graphile_worker._private_jobs where key like '%' || $1", [id]);
  });

const FINAL = { completed: "completed", fail: "failed", skip: "skipped", unconfirmed: "unconfirmed" } as const;

function settled(row: Row, outcome: Settlement["outcome"]): string {
  if (outcome !== "retry" && outcome !== "defer") return FINAL[outcome];
  if (row.cancelRequested) return "cancelled";
  const used = outcome === "retry" ? row.attempts >= MAX_ATTEMPTS : row.deferrals >= MAX_DEFERRALS;
  return used ? "failed" : "pending";
}

const settleRow = (
  pick: number,
  outcome: Settlement["outcome"],
  stale: boolean,
  due: boolean,
): fc.AsyncCommand<Model, Real> =>
  step(`settle ${stale ? "late " : ""}${outcome}`, pick, async (row, id) => {
    const lease = stale ? (row.staleLeases[0] ?? randomUUID()) : row.lease;
    const run_at = due ? new Date(0) : new Date("2100-01-01Z");
    const answer = await settle(asWorker, db.tenantA, [{ id, lease, outcome, run_at, reason: "…" }]);
    if (stale || row.lease === null) {
      expect(answer).toEqual({});
      return;
    }
    const status = settled(row, outcome);
    expect(answer).toEqual({ [id]: status });
    row.staleLeases.unshift(row.lease);
    row.lease = null;
    row.status = status;
    row.deaths = Math.min(row.deaths, 1);
    if (status === "pending") row.due = due;
    if (outcome === "defer") {
      row.attempts -= 1;
      row.deferrals += 1;
    }
  });

const update = async (id: string, assignment: string): Promise<string | null> =>
  asTenant.query(`update ai_email_queue set ${assignment} where id = $1`, [id]).then(() => null, codeOf);

const cancelRow = (pick: number): fc.AsyncCommand<Model, Real> =>
  step("cancel", pick, async (row, id) => {
    expect(await update(id, "status = 'cancelled'")).toBe(row.status === "completed" ? "OP003" : null);
    if (row.status === "processing") row.cancelRequested = true;
    else if (row.status !== "completed") row.status = "cancelled";
  });

const againRow = (pick: number): fc.AsyncCommand<Model, Real> =>
  step("again", pick, async (row, id) => {
    expect(await update(id, "status = 'queued'")).toBe(row.status === "processing" ? "OP003" : null);
    if (row.status === "processing" || row.status === "pending") return;
    Object.assign(row, { status: "pending", attempts: 0, deferrals: 0, cancelRequested: false });
  });

const rescheduleRow = (pick: number, due: boolean): fc.AsyncCommand<Model, Real> =>
  step(due ? "now" : "later", pick, async (row, id) => {
    expect(await update(id, `scheduled_for = ${due ? "null" : "'2100-01-01Z'"}`)).toBeNull();
    row.due = due;
  });

const die = (idempotent: boolean): fc.AsyncCommand<Model, Real> => ({
  check: () => true,
  run: async (model, real) => {
    await db.query("update brainops.job_tables set effect_is_idempotent = $1", [idempotent]);
    await asWorker.query(
      "select brainops_internal.settle_rows_of_dead_worker(j, $1, 'died') from brainops.job_tables as j",
      [real.worker],
    );
    for (const row of model.values()) {
      if (row.lease === null) continue;
      row.staleLeases.unshift(row.lease);
      row.lease = null;
      row.status = "unconfirmed";
      if (idempotent) row.status = row.cancelRequested ? "cancelled" : row.deaths >= 2 ? "failed" : "pending";
      row.deaths += 1;
      if (row.status === "pending") {
        row.due = true;
        row.attempts -= 1;
      }
    }
    await check(model, real);
  },
  toString: () => `worker dies (${idempotent ? "idempotent" : "not idempotent"})`,
});

it("a row follows the model, in any interleaving", async () => {
  const pick = fc.nat({ max: 11 });
  const outcome = fc.constantFrom<Settlement["outcome"][]>(
    "completed",
    "retry",
    "defer",
    "fail",
    "skip",
    "unconfirmed",
  );
  const steps = [
    fc.boolean().map(insert),
    pick.map((n) => claimRow(n, false)),
    pick.map((n) => claimRow(n, false)),
    pick.map((n) => claimRow(n, true)),
    fc
      .tuple(
        pick,
        outcome,
        fc.boolean().map((late) => late),
        fc.boolean(),
      )
      .map(([i, o, late, due]) => settleRow(i, o, late, due)),
    fc.tuple(pick, outcome, fc.constant(false), fc.boolean()).map(([i, o, late, due]) => settleRow(i, o, late, due)),
    pick.map(cancelRow),
    pick.map(againRow),
    fc.tuple(pick, fc.boolean()).map(([i, due]) => rescheduleRow(i, due)),
    fc.boolean().map(die),
  ];
  const holds = fc.assert(
    fc.asyncProperty(fc.commands(steps, { maxCommands: 30, size: "max" }), async (commands) => {
      await db.query("delete from ai_email_queue");
      await db.query("delete from graphile_worker._private_jobs where key is not null");
      await fc.asyncModelRun(
        () => ({ model: new Map() as Model, real: { ids: new Map(), worker: randomUUID() } }),
        commands,
      );
    }),
    { numRuns: 40 },
  );
  await expect(holds).resolves.toBeUndefined();
}, 120_000);
