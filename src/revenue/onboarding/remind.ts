// The effect of a row of onboarding_reminders: rows of ours, under keys of their own, so that twice
// is as once. What is said to whom is decided in SQL.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";

export async function sendReminder(row: JobRow, { query }: JobContext): Promise<Outcome> {
  const { rows } = await query("select brainops_internal.send_onboarding_reminder($1) as reason", [row.id]);
  const reason = (rows as { reason: string | null }[])[0]?.reason ?? null;
  return reason === null ? { kind: "completed" } : { kind: "skip", reason };
}
