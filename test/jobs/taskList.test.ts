// What a worker requires of job tables before it offers their tasks.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db?.close());

describe("a worker", () => {
  it("does not start on a job table that lacks a column of brainops.job_columns", async () => {
    await db.query(
      `insert into brainops.job_columns (name, position, definition, client_inserts, client_updates, is_listed, is_loaded)
       values ('budget', 99, 'numeric', true, true, true, true)`,
    );
    await expect(startTestWorker(db, null)).rejects.toThrow(/lacks budget; add what brainops.job_columns defines/);
    await db.query("delete from brainops.job_columns where name = 'budget'");
    const worker = await startTestWorker(db, null);
    await worker.stop();
  });

  it("does not start on a crontab that names a task which does not exist", async () => {
    const crontab = "* * * * * maintenance__sweep\n0 4 * * * greeting__dayly ?max=3";
    await expect(startTestWorker(db, null, { crontab })).rejects.toThrow(
      /no task is named greeting__dayly\. Tasks: .*maintenance__sweep/,
    );
    // A task whose provider this worker has no credentials for exists.
    const worker = await startTestWorker(db, null, {
      crontab: "* * * * * maintenance__sweep\n0 4 * * * sms__reconcile",
    });
    await worker.stop();
  });
});
