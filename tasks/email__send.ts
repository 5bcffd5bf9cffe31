// Sends one row of ai_email_queue, or many rows of one broadcast in one call. The gate (suppression, contact rules),
// pauses, rate limits and the circuit breaker were checked in the claiming transaction. The engine writes the outcome.
import { defineBulk, defineJob } from "../src/jobs/define.ts";
import { sendBroadcast } from "../src/revenue/email/broadcast.ts";
import { loadEmails, type EmailRow } from "../src/revenue/email/load.ts";
import { loadRecipients, type RecipientRow } from "../src/revenue/email/loadBroadcast.ts";
import { prepareEmail, sendEmail, type PreparedEmail } from "../src/revenue/email/send.ts";

export default defineJob<EmailRow, PreparedEmail>({
  table: "ai_email_queue",
  requires: "sendgrid",
  load: loadEmails,
  prepare: prepareEmail,
  effect: sendEmail,
  bulk: defineBulk<RecipientRow>({ load: loadRecipients, effect: sendBroadcast }),
});
