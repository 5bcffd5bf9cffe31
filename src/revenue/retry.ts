// When a row that waits for a changed setting or credential runs again.
import type { Outcome } from "../jobs/outcome.ts";

const SETTING_RETRY_MS = 10 * 60_000;

/**
 * Defers a row until a setting may have changed. brainops.job_tables.max_deferrals limits how often.
 * @param missing what the row waits for, as the rest of a text that begins with "waiting: "
 * @param afterMs how long to wait; 10 minutes by default
 */
export function deferUntilSet(missing: string, now: Date, afterMs = SETTING_RETRY_MS): Outcome {
  return { kind: "defer", reason: `waiting: ${missing}`, at: new Date(now.getTime() + afterMs) };
}
