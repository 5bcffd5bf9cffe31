// Suspects in a worker of this process: each runs in a process of its own, so that nothing they do ends this one.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { createPoisonTable, insertPoison, poisonTasks } from "../faults/poison.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let worker: Worker | null = null;

beforeAll(async () => {
  db = await createTestDatabase();
  await createPoisonTable(db);
});

afterEach(async () => {
  await worker?.stop();
  worker = null;
});

afterAll(() => db.close());

async function start(): Promise<void> {
  worker = await startTestWorker(db, null, { tasks: [poisonTasks] });
}

interface Row {
  readonly status: string;
  readonly attempts: number;
  readonly last_error: string | null;
  readonly ran_in: number | null;
}

async function ended(ids: readonly string[], timeoutMs = 30_000): Promise<Row[]> {
  await db.until(
    "select bool_and(status not in ('pending', 'processing')) from poison_rows where id = any ($1)",
    [ids],
    timeoutMs,
  );
  return db.query<Row>(
    "select status, attempts, last_error, ran_in from poison_rows where id = any ($1) order by array_position($1, id)",
    [ids],
  );
}

describe("a suspect", () => {
  it("is completed in a process of its own, while other rows are completed in the worker's", async () => {
    await start();
    const beside = await insertPoison(db, ["complete", "complete"]);
    const suspects = await insertPoison(db, ["complete", "complete", "complete"], 2);
    const rows = await ended([...beside, ...suspects]);
    expect(rows.map(({ status, attempts }) => [status, attempts])).toEqual(
      Array.from({ length: 5 }, () => ["completed", 1]),
    );
    const [own, ...others] = rows.slice(2).map((row) => row.ran_in);
    expect(rows.slice(0, 2).map((row) => row.ran_in)).toEqual([process.pid, process.pid]);
    expect(own).not.toBe(process.pid);
    expect(others).toEqual([own, own]);
  });

  it.each([
    ["abort", /signal SIGABRT/],
    ["exit", /exit code 3/],
    ["kill", /signal SIGKILL/],
    ["block", /did not answer 11 s after its claim/],
  ])(
    "that ends its process by %s is failed, and the next one is completed",
    async (act, reason) => {
      await start();
      const rows = await ended(await insertPoison(db, [act, "complete"], 2), 40_000);
      expect(rows.map(({ status, attempts }) => [status, attempts])).toEqual([
        ["failed", 1],
        ["completed", 1],
      ]);
      expect(rows[0]?.last_error).toMatch(reason);
    },
    60_000,
  );

  it("is not blamed for what an earlier row left behind: it runs again", async () => {
    await start();
    // The first is completed, and ends the process 50 ms later, while the second runs.
    const [, second] = await ended([
      ...(await insertPoison(db, ["later"], 2)),
      ...(await insertPoison(db, ["complete", "complete", "complete", "complete"], 2)),
    ]);
    expect(second).toMatchObject({ status: "completed", attempts: 1 });
    expect(await db.query("select from poison_rows where status = 'failed' and act in ('later', 'complete')")).toEqual(
      [],
    );
  });

  it("is aborted when the worker stops, and those behind it get a job for another worker", async () => {
    await start();
    await db.query("update brainops.job_tables set time_limit = '1 minute' where table_name = 'poison_rows'");
    const [running = ""] = await insertPoison(db, ["wait"], 2);
    await db.until("select status = 'processing' from poison_rows where id = $1", [running]);
    const [behind = ""] = await insertPoison(db, ["complete"], 2);
    await db.until("select not exists (select from graphile_worker._private_jobs where key like '%' || $1)", [behind]);
    await worker?.stop(100);
    expect(await db.query("select status from poison_rows where id = $1", [running])).toEqual([{ status: "pending" }]);
    expect(await db.query("select status from poison_rows where id = $1", [behind])).toEqual([{ status: "pending" }]);
    const again = `select from graphile_worker._private_jobs where key like '%:' || $1 || ':again'`;
    expect(await db.query(again, [behind])).toHaveLength(1);
  });
});
