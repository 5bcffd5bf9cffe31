// Sends one row of ai_email_queue. The gate (suppression, pause, rate, breaker) was asked in the
// claiming transaction; the engine writes the outcome.
import { defineJob } from "../src/jobs/define.ts";
import { loadEmails, type EmailRow } from "../src/revenue/email/load.ts";
import { prepareEmail, sendEmail, type PreparedEmail } from "../src/revenue/email/send.ts";

export default defineJob<EmailRow, PreparedEmail>({
  table: "ai_email_queue",
  requires: "sendgrid",
  load: loadEmails,
  prepare: (row, { config }) => prepareEmail(row, config),
  effect: (prepared, { config }) => sendEmail(prepared, config),
});
