// Computes scores: after an event, those of the leads that the payload names; every night, those of all leads whose
// points have decayed.
import { z } from "zod";
import { defineTask } from "../src/jobs/define.ts";
import { scoreFaded, scoreLeads } from "../src/revenue/leads/score.ts";

const payloadShape = z.object({
  /** Leads to score. An id that does not exist is ignored. */
  ids: z.array(z.uuid()).max(10_000).optional(),
  /** Score all leads whose points have decayed. Set by crontab. */
  faded: z.boolean().optional(),
});

export default defineTask(async (payload, { pool, log, signal }) => {
  const { ids = [], faded = false } = payloadShape.parse(payload);
  if (ids.length > 0) {
    const changed = await scoreLeads(pool, ids);
    log.debug({ leads: ids.length, changed }, "score: computed scores");
  }
  if (faded) {
    const rescored = await scoreFaded(pool, signal);
    log.info({ rescored }, "score: computed scores that had decayed");
  }
});
