import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { startWorkerProcess, type WorkerProcess } from "../support/process.ts";
import { createPoisonTable, insertPoison, poisonTasks } from "./poison.ts";

let db: TestDatabase;
const started: WorkerProcess[] = [];
let supervising = true;
let deaths = 0;

beforeAll(async () => {
  db = await createTestDatabase();
  await createPoisonTable(db);
});

afterAll(async () => {
  supervising = false;
  for (const worker of started) worker.child.kill("SIGKILL");
  await Promise.all(started.map((worker) => worker.exited));
  await db.close();
});

/** Keeps a worker running, as a supervisor does: one that dies is replaced. */
async function supervise(): Promise<void> {
  // A small heap, so that the row that fills it does so quickly.
  const env = { NODE_OPTIONS: "--max-old-space-size=128" };
  const worker = await startWorkerProcess(db.urlOf("worker"), env, ["--tasks", poisonTasks]);
  started.push(worker);
  void replace(worker);
}

async function replace(worker: WorkerProcess): Promise<void> {
  await worker.exited;
  if (!supervising) return;
  deaths += 1;
  await supervise();
}

describe.skipIf(!isServer)("a row that kills its worker (needs server processes)", () => {
  it.each(["abort", "memory"])(
    "by %s fails after two deaths and a run alone; 499 rows beside it are completed at their first attempt",
    async (act) => {
      deaths = 0;
      supervising = true;
      await Promise.all([supervise(), supervise()]);
      const acts = Array.from({ length: 500 }, (_, index) => (index === 250 ? act : "complete"));
      const ids = await insertPoison(db, acts);
      await db.until(
        "select bool_and(status in ('completed', 'failed')) from poison_rows where id = any ($1)",
        [ids],
        120_000,
      );
      const rows = await db.query(
        "select act, status, attempts, count(*)::int as n from poison_rows where id = any ($1) group by 1, 2, 3 order by 1",
        [ids],
      );
      expect(rows).toEqual(
        [
          { act, status: "failed", attempts: 1, n: 1 },
          { act: "complete", status: "completed", attempts: 1, n: 499 },
        ].toSorted((a, b) => a.act.localeCompare(b.act)),
      );
      expect(deaths).toBe(2);
      // Four if another suspect ran before it in the same process, so that it had to run once more.
      const [poison] = await db.query("select last_error from poison_rows where act = $1", [act]);
      expect(poison?.["last_error"]).toMatch(
        /died [34] times while it was in flight, the last time while it ran alone: /,
      );
      supervising = false;
      const last = started.splice(0);
      for (const worker of last) worker.child.kill("SIGTERM");
      await Promise.all(last.map((worker) => worker.exited));
    },
    180_000,
  );

  it("fails if its worker dies while it runs alone, and leaves no process behind", async () => {
    supervising = false;
    const start = (): Promise<WorkerProcess> =>
      startWorkerProcess(db.urlOf("worker"), {}, ["--tasks", poisonTasks]).then((worker) => {
        started.push(worker);
        return worker;
      });
    const victim = await start();
    const [id] = await insertPoison(db, ["block"], 2);
    await db.until("select status = 'processing' from poison_rows where id = $1", [id]);
    await start();
    victim.child.kill("SIGKILL");
    await db.until("select status = 'failed' from poison_rows where id = $1", [id], 40_000);
    const [row] = await db.query("select last_error from poison_rows where id = $1", [id]);
    expect(row?.["last_error"]).toMatch(/the last time while it ran alone: its worker \(.*\) died/);
    await db.until(
      "select not exists (select from pg_stat_activity where datname = current_database() and application_name = 'brainops alone')",
    );
  }, 90_000);
});
