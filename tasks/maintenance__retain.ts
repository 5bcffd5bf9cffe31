// Each night: moves done rows to the archive, creates the coming monthly partitions, and deletes old
// partitions, webhook events, reports, old results of the circuit breakers and events of the session guard.
import { defineTask, type TaskContext } from "../src/jobs/define.ts";

/** Rows per table and statement, so that no transaction is long. */
const MAX_ROWS = 5000;

export default defineTask(async (_payload, context) => {
  await untilFewer(context, "select max(archived) as most from brainops.archive_done($1)");
  await context.pool.query("select brainops.retain_months()");
  await untilFewer(context, "select brainops_internal.prune_webhook_events($1) as most");
  await untilFewer(context, "select brainops_internal.prune_reports($1) as most");
  await untilFewer(context, "select brainops_internal.prune_breaker_tenants($1) as most");
  await untilFewer(context, "select brainops_internal.prune_session_events($1) as most");
});

/** Repeats the statement until it stays below the limit in every table; `most` is the count of the table with the most rows. */
async function untilFewer({ pool, log, signal }: TaskContext, statement: string): Promise<void> {
  let most = MAX_ROWS;
  while (most === MAX_ROWS && !signal.aborted) {
    const { rows } = await pool.query<{ most: number | null }>(statement, [MAX_ROWS]);
    most = rows[0]?.most ?? 0;
    log.info({ statement, most }, "retain: rows moved or deleted, in the table with the most");
  }
}
