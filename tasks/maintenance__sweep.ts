// Each minute: due rows that lost their job get one, rows stuck in processing get an end, rows
// that no worker can run say what they wait for; senders that get too many complaints are held.
import { defineTask } from "../src/jobs/define.ts";

export default defineTask(async (_payload, { pool, log, waiting }) => {
  await pool.query("select brainops.sweep_webhook_events()");
  await pool.query("select brainops.guard_reputation()");
  for (const [task, reason] of waiting) {
    await pool.query("select brainops.note_waiting($1, $2)", [task, reason]);
  }
  const { rows } = await pool.query<{ table_name: string; requeued: number; timed_out: number }>(
    "select table_name, requeued, timed_out from brainops.sweep()",
  );
  for (const row of rows) {
    if (row.requeued + row.timed_out > 0) log.warn(row, "sweep: rows were without a job or stuck");
  }
});
