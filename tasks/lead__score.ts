// Reckons leads' scores: those named, when something that feeds them arrived; and each night those
// whose points have faded.
import { z } from "zod";
import { defineTask } from "../src/jobs/define.ts";
import { scoreFaded, scoreLeads } from "../src/revenue/leads/score.ts";

const payloadShape = z.object({
  /** Leads to reckon; one that is gone is left out. */
  ids: z.array(z.uuid()).max(10_000).optional(),
  /** All whose points have faded; crontab sets it. */
  faded: z.boolean().optional(),
});

export default defineTask(async (payload, { pool, log, signal }) => {
  const { ids = [], faded = false } = payloadShape.parse(payload);
  if (ids.length > 0) {
    const changed = await scoreLeads(pool, ids);
    log.debug({ leads: ids.length, changed }, "score: reckoned leads");
  }
  if (faded) {
    const rescored = await scoreFaded(pool, signal);
    log.info({ rescored }, "score: reckoned the leads whose points have faded");
  }
});
