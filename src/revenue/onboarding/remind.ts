// The effect of a row of onboarding_reminders. SQL decides whom to remind of what, and inserts rows with
// idempotency keys, so a second run changes nothing.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";

export async function sendReminder(row: JobRow, { query }: JobContext): Promise<Outcome> {
  const { rows } = await query("select brainops_internal.send_onboarding_reminder($1) as reason", [row.id]);
  const reason = (rows as { reason: string | null }[])[0]?.reason ?? null;
  return reason === null ? { kind: "completed" } : { kind: "skip", reason };
}
