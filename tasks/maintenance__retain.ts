// Each night: done rows move to the archive, whole old months go, new months are made; old webhooks and reports go.
import { defineTask } from "../src/jobs/define.ts";

export default defineTask(async (_payload, { pool, log, signal }) => {
  let archived = 0;
  do {
    const { rows } = await pool.query<{ archived: number }>("select archived from brainops.archive_done()");
    archived = Math.max(0, ...rows.map((row) => row.archived));
    log.info({ tables: rows.length, most: archived }, "retain: moved done rows to the archive");
  } while (archived === 5000 && !signal.aborted);
  await pool.query("select brainops.retain_months()");
  for (const prune of ["prune_webhook_events", "prune_reports"]) {
    let pruned = 0;
    do {
      const { rows } = await pool.query<{ pruned: number }>(`select brainops.${prune}() as pruned`);
      pruned = rows[0]?.pruned ?? 0;
    } while (pruned === 5000 && !signal.aborted);
  }
});
