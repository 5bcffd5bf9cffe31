import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
});

afterAll(async () => {
  await simulator.close();
  await db.close();
});

describe("a worker that is stopped while graphile-worker is restarting", () => {
  // Stops at several moments of the restart.
  it.each([0, 60, 150, 220, 300])("leaves no run behind (%i ms into it)", async (delayMs) => {
    const worker = await startTestWorker(db, simulator);
    worker.restart("a test");
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await worker.stop();
    await db.query(
      "insert into ai_email_queue (tenant_id, recipient, subject, body) values ($1, 'p@example.com', 's', 'b')",
      [db.tenantA],
    );
    const [left] = await db.query(
      `select (select count(*)::int from brainops.worker_processes) as workers,
         (select count(*)::int from graphile_worker.jobs where attempts > 0 or locked_at is not null) as touched`,
    );
    expect(left).toEqual({ workers: 0, touched: 0 });
    await db.query("delete from ai_email_queue");
  });
});

it("a worker whose start fails leaves no run behind", async () => {
  await db.query(`
    create function refuse() returns trigger language plpgsql as $$ begin raise exception 'not today'; end; $$;
    create trigger refuse before insert on brainops.installation for each row execute function refuse();
  `);
  await expect(startTestWorker(db, simulator)).rejects.toThrow("not today");
  await db.query("drop function refuse cascade");
  await db.query(
    "insert into ai_email_queue (tenant_id, recipient, subject, body) values ($1, 'p@example.com', 's', 'b')",
    [db.tenantA],
  );
  const [left] = await db.query(
    `select (select count(*)::int from brainops.worker_processes) as workers,
       (select count(*)::int from graphile_worker.jobs where attempts > 0 or locked_at is not null) as touched`,
  );
  expect(left).toEqual({ workers: 0, touched: 0 });
});
