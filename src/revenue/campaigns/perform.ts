// The effect of a row of ai_campaign_touches: one call of brainops_internal.perform_touch, which does what the
// step says in one transaction.
import { z } from "zod";
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";

export interface TouchRow extends JobRow {
  /** The claim's lease; nothing is performed if the row has another lease by now. */
  readonly lease: string;
}

export const loadTouches = `
  select id, tenant_id, attempts, max_attempts, lease
  from public.ai_campaign_touches
  where id = any ($1) and status = 'processing'
`;

const performed = z.discriminatedUnion("outcome", [
  z.object({ outcome: z.literal("completed") }),
  z.object({ outcome: z.literal("skip"), reason: z.string() }),
  z.object({ outcome: z.literal("fail"), reason: z.string() }),
  z.object({ outcome: z.literal("defer"), reason: z.string(), run_at: z.date() }),
]);

/** Performs the touch. Idempotent: on a thrown deadlock or lost connection the engine runs it again. */
export async function performTouch({ id, lease }: TouchRow, { query }: Pick<JobContext, "query">): Promise<Outcome> {
  const { rows } = await query("select outcome, reason, run_at from brainops_internal.perform_touch($1, $2)", [
    id,
    lease,
  ]);
  const answer = performed.parse(rows[0]);
  switch (answer.outcome) {
    case "completed":
      return { kind: "completed" };
    case "skip":
    case "fail":
      return { kind: answer.outcome, reason: answer.reason };
    case "defer":
      return { kind: "defer", reason: answer.reason, at: answer.run_at };
    default:
      return answer satisfies never;
  }
}
