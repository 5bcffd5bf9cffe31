// Each night: done rows move to the archive, whole old months go, new months are made; old webhooks and reports go.
import { defineTask, type TaskContext } from "../src/jobs/define.ts";

/** Rows of a table that one statement takes at most, so that no transaction is long. */
const MOST = 5000;

export default defineTask(async (_payload, context) => {
  await untilFewer(context, "select max(archived) as most from brainops.archive_done($1)");
  await context.pool.query("select brainops.retain_months()");
  await untilFewer(context, "select brainops.prune_webhook_events($1) as most");
  await untilFewer(context, "select brainops.prune_reports($1) as most");
});

/** Runs a statement again while it takes as many rows of a table as it may. */
async function untilFewer({ pool, log, signal }: TaskContext, statement: string): Promise<void> {
  let most = MOST;
  while (most === MOST && !signal.aborted) {
    const { rows } = await pool.query<{ most: number | null }>(statement, [MOST]);
    most = rows[0]?.most ?? 0;
    log.info({ statement, most }, "retain: rows of the table with the most");
  }
}
