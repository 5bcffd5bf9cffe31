// Applies recorded webhook events, each in a subtransaction of its own: one that fails stays pending
// with its error (failed after the third attempt), and the others are applied.
import { z } from "zod";
import { defineTask } from "../src/jobs/define.ts";

/** `ids` are rows of webhook_events. */
const payloadShape = z.object({ ids: z.array(z.uuid()).max(10_000) });

export default defineTask(async (payload, { pool, helpers }) => {
  const { ids } = payloadShape.parse(payload);
  const { rows } = await pool.query<{ status: string; events: number }>(
    "select status, events from brainops_internal.process_webhook_events($1)",
    [ids],
  );
  // In a transaction of its own: see the function.
  await pool.query("select brainops_internal.wake_missed_stripe_events('5 minutes')");
  const again = rows.find((row) => row.status === "pending")?.events ?? 0;
  if (again > 0) {
    // graphile-worker retries the job after its usual delay. Applied events are not applied again.
    throw new Error(`${again} of ${ids.length} events failed and will be retried (job ${helpers.job.id})`);
  }
});
