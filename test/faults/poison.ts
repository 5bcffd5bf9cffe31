// The job table of tasks/poison__run.ts, and rows of it.
import { fileURLToPath } from "node:url";
import type { TestDatabase } from "../support/database.ts";

export const poisonTasks = fileURLToPath(new URL("tasks", import.meta.url));

export async function createPoisonTable(db: TestDatabase): Promise<void> {
  await db.query("create table poison_rows (act text not null, ran_in int)");
  await db.query(
    `select brainops.define_job_table('poison_rows', 'poison__run', true,
       p_result_columns => '{ran_in}', p_time_limit => '1 second')`,
  );
}

/** Inserts rows as tenant A; returns their ids. With `deaths`, as if that many workers had died. */
export async function insertPoison(db: TestDatabase, acts: readonly string[], deaths = 0): Promise<string[]> {
  const rows = await db.as<{ id: string }>(
    "tenantA",
    "insert into poison_rows (act, scheduled_for) select a, '2100-01-01Z' from unnest($1::text[]) with ordinality as u (a, n) order by n returning id",
    [acts],
  );
  const ids = rows.map(({ id }) => id);
  if (deaths > 0) await db.query("update poison_rows set worker_deaths = $2 where id = any ($1)", [ids, deaths]);
  await db.query("update poison_rows set scheduled_for = null where id = any ($1)", [ids]);
  return ids;
}
