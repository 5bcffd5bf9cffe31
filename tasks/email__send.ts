// Sends one row of ai_email_queue, or many of one broadcast. The gate (suppression, pause, rate, breaker) was asked in the
// claiming transaction; the engine writes the outcome.
import { defineBulk, defineJob } from "../src/jobs/define.ts";
import { sendBroadcast } from "../src/revenue/email/broadcast.ts";
import { loadEmails, type EmailRow } from "../src/revenue/email/load.ts";
import { loadRecipients, type RecipientRow } from "../src/revenue/email/loadBroadcast.ts";
import { prepareEmail, sendEmail, type PreparedEmail } from "../src/revenue/email/send.ts";

export default defineJob<EmailRow, PreparedEmail>({
  table: "ai_email_queue",
  requires: "sendgrid",
  load: loadEmails,
  prepare: (row, { config }) => prepareEmail(row, config),
  effect: sendEmail,
  bulk: defineBulk<RecipientRow>({ load: loadRecipients, effect: sendBroadcast }),
});
