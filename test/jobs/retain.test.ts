// The nightly task, with more rows than one batch.
import type { JobHelpers } from "graphile-worker";
import type pg from "pg";
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadConfig } from "../../src/config.ts";
import { createPool } from "../../src/db/pool.ts";
import { createLog } from "../../src/telemetry/log.ts";
import retain from "../../tasks/maintenance__retain.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;
let pool: pg.Pool;

beforeAll(async () => {
  db = await createTestDatabase();
  pool = createPool({ connectionString: db.urlOf("worker"), applicationName: "test", max: 1 });
});

afterAll(async () => {
  await pool.end();
  await db.close();
});

it("archives old rows, creates the coming months, and deletes old webhooks and reports, in several batches", async () => {
  await db.query(
    `insert into email_bounces (tenant_id, recipient, bounce_type, occurred_at)
     select $1, n || '@example.com', 'soft', now() - interval '2 years' from generate_series(1, 5001) as n`,
    [db.tenantA],
  );
  await db.query(
    `insert into webhook_events (provider, provider_event_id, payload, signature_ok, status, received_at, processed_at)
     values ('sendgrid', 'old', '{}', true, 'completed', now(), now() - interval '31 days')`,
  );
  await db.query(
    `insert into ai_email_queue (tenant_id, recipient, subject, body, status) values ($1, 'ann@example.com', 'Hi', 'Ann', 'cancelled')`,
    [db.tenantA],
  );
  await db.query("update ai_email_queue set finished_at = now() - interval '2 months'");

  const log = createLog({ level: "silent", human: false });
  const { signal } = new AbortController();
  await retain.run({}, { pool, log, config: loadConfig({}), signal, helpers: {} as JobHelpers, waiting: new Map() });

  const left =
    "select (select count(*)::int from email_bounces) as bounces, (select count(*)::int from webhook_events) as webhooks";
  expect(await db.query(left)).toEqual([{ bounces: 0, webhooks: 0 }]);
  expect(await db.query("select table_name from brainops.job_archive")).toEqual([{ table_name: "ai_email_queue" }]);
});
