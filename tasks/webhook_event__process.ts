// Applies recorded webhook events. Each event stands alone: one that fails stays behind with its
// error and takes nothing with it.
import { z } from "zod";
import { defineTask } from "../src/jobs/define.ts";

/** ids: rows of webhook_events. */
const payloadShape = z.object({ ids: z.array(z.uuid()).max(10_000) });

export default defineTask(async (payload, { pool, helpers }) => {
  const { ids } = payloadShape.parse(payload);
  const { rows } = await pool.query<{ status: string; events: number }>(
    "select status, events from brainops.process_webhook_events($1)",
    [ids],
  );
  const again = rows.find((row) => row.status === "pending")?.events ?? 0;
  if (again > 0) {
    // graphile-worker comes back with its usual delay; what is done is not done again.
    throw new Error(`${again} of ${ids.length} events failed and are tried again (job ${helpers.job.id})`);
  }
});
