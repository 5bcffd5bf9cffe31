// brainops.define_job_table, called again for a table that is a job table already: by brainops migrate, whenever the
// file of the table differs, and by people.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;
let client: pg.Client;
beforeAll(async () => {
  db = await createTestDatabase();
  client = await db.connect("superuser");
  await client.query(
    "create table public.roof_jobs (id uuid primary key default gen_random_uuid(), tenant_id uuid not null)",
  );
  await client.query("select brainops.define_job_table('roof_jobs', 'roof__measure', true)");
});
afterAll(() => db?.close());

const again = "select brainops.define_job_table('roof_jobs', 'roof__measure', true)";

async function inTransaction(run: () => Promise<void>): Promise<void> {
  await client.query("begin");
  try {
    await run();
  } finally {
    await client.query("rollback");
  }
}

const listed = async (column: string): Promise<boolean> =>
  (
    await client.query(
      "select from information_schema.columns where table_schema = 'brainops' and table_name = 'jobs' and column_name = $1",
      [column],
    )
  ).rowCount === 1;

describe("define_job_table of a job table", () => {
  // Who reads the view comes to the table next, which this transaction has locked.
  it("leaves brainops.jobs to its readers", async () => {
    await inTransaction(async () => {
      await client.query(again);
      const { rows } = await client.query(
        `select mode from pg_locks where pid = pg_backend_pid() and relation = 'brainops.jobs'::regclass
         and mode = 'AccessExclusiveLock'`,
      );
      expect(rows).toEqual([]);
    });
  });

  it("shows a new job table in brainops.jobs", async () => {
    await inTransaction(async () => {
      await client.query(
        "create table public.other_jobs (id uuid primary key default gen_random_uuid(), tenant_id uuid not null)",
      );
      await client.query("select brainops.define_job_table('other_jobs', 'other__do', true)");
      await client.query("insert into other_jobs (tenant_id) values ($1)", [db.tenantA]);
      const { rows } = await client.query("select tenant_id from brainops.jobs where table_name = 'other_jobs'");
      expect(rows).toEqual([{ tenant_id: db.tenantA }]);
    });
  });

  it("adds, grants and shows a column that brainops.job_columns got since", async () => {
    await inTransaction(async () => {
      await client.query(
        `insert into brainops.job_columns (name, position, definition, client_inserts, client_updates, is_listed, is_loaded)
         select 'budget', max(position) + 1, 'int not null default 7', true, false, true, true from brainops.job_columns`,
      );
      await client.query(
        `select brainops.define_job_table(
           relation::regclass, task_identifier, effect_is_idempotent, channel, gate, provider, result_columns,
           p_bulk_column => bulk_column
         )
         from brainops.job_tables order by table_name = 'roof_jobs'`,
      );
      const { rows } = await client.query(
        `select has_column_privilege('brainops_tenant', 'roof_jobs', 'budget', 'insert') as inserts,
           has_column_privilege('brainops_tenant', 'roof_jobs', 'budget', 'update') as updates`,
      );
      expect(rows).toEqual([{ inserts: true, updates: false }]);
      expect(await listed("budget")).toBe(true);
    });
  });
});
