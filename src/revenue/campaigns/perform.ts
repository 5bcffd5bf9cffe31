// The effect of a row of ai_campaign_touches: one call, one transaction. What a step does is decided
// in SQL (brainops_internal.perform_touch), so that it happens wholly or not at all.
import { z } from "zod";
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";

export interface TouchRow extends JobRow {
  /** Of this claim: where it does not hold any more, nothing is performed. */
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

/** Performs the touch. A deadlock or a lost connection is thrown, and the touch tried again: performed twice is as once. */
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
