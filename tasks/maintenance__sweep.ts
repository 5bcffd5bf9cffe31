// Each minute: queues due rows that lost their job, ends rows stuck in processing, writes the reason into rows that no
// worker can process, and holds the marketing mail of tenants with too many complaints or bounces. The steps are
// independent: all of them run, and the task fails if one of them does.
import { messageOf } from "../src/errors.ts";
import { defineTask } from "../src/jobs/define.ts";

export default defineTask(async (_payload, { pool, log, waiting }) => {
  const sweepRows = async (): Promise<void> => {
    const { rows } = await pool.query<{ table_name: string; requeued: number; timed_out: number }>(
      "select table_name, requeued, timed_out from brainops_internal.sweep()",
    );
    for (const row of rows) {
      if (row.requeued + row.timed_out > 0)
        log.warn(row, "sweep: queued rows without a job, and ended rows stuck in processing");
    }
  };
  const steps = [
    sweepRows,
    () => pool.query("select brainops_internal.sweep_webhook_events()"),
    () => pool.query("select brainops_internal.guard_reputation()"),
    ...[...waiting].map(
      ([task, reason]) =>
        () =>
          pool.query("select brainops_internal.set_waiting_reason($1, $2)", [task, reason]),
    ),
  ];
  const errors: unknown[] = [];
  for (const step of steps) {
    try {
      await step();
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw new AggregateError(errors, errors.map((error) => messageOf(error)).join("; "));
});
