// Each minute: queues due rows that lost their job, ends rows stuck in processing, writes the reason into rows that no
// worker can process, and holds the marketing mail of tenants with too many complaints or bounces.
import { defineTask } from "../src/jobs/define.ts";

export default defineTask(async (_payload, { pool, log, waiting }) => {
  await pool.query("select brainops_internal.sweep_webhook_events()");
  await pool.query("select brainops_internal.guard_reputation()");
  for (const [task, reason] of waiting) {
    await pool.query("select brainops_internal.set_waiting_reason($1, $2)", [task, reason]);
  }
  const { rows } = await pool.query<{ table_name: string; requeued: number; timed_out: number }>(
    "select table_name, requeued, timed_out from brainops_internal.sweep()",
  );
  for (const row of rows) {
    if (row.requeued + row.timed_out > 0)
      log.warn(row, "sweep: queued rows without a job, and ended rows stuck in processing");
  }
});
