// Sends one row of onboarding_reminders. The gate (step still open) was checked in the claiming
// transaction. The engine writes the outcome.
import { defineJob, type JobRow } from "../src/jobs/define.ts";
import { sendReminder } from "../src/revenue/onboarding/remind.ts";

export default defineJob<JobRow>({
  table: "onboarding_reminders",
  effect: sendReminder,
});
