// Sends one row of onboarding_reminders. The gate (whether the step is still open) was asked in the
// claiming transaction; the engine writes the outcome.
import { defineJob, type JobRow } from "../src/jobs/define.ts";
import { sendReminder } from "../src/revenue/onboarding/remind.ts";

export default defineJob<JobRow>({
  table: "onboarding_reminders",
  effect: sendReminder,
});
