// Sends one row of ai_email_queue. The gate (suppression, pause, rate, breaker) was asked in the
// claiming transaction; the outcome is written by the engine.
import { defineJob } from "../src/jobs/define.ts";
import { sendMail } from "../src/providers/sendgrid.ts";
import { composeEmail } from "../src/revenue/email/compose.ts";
import { loadEmails, type EmailRow } from "../src/revenue/email/load.ts";

export default defineJob<EmailRow, { row: EmailRow; mail: ReturnType<typeof composeEmail> }>({
  table: "ai_email_queue",
  requires: "sendgrid",
  load: loadEmails,
  prepare: (row, { config }) => ({ row, mail: composeEmail(row, config) }),
  effect: async ({ row, mail }, { config }) => {
    if (row.unsubscribe_token !== null && mail.unsubscribeUrl === undefined) {
      const reason = "waiting: marketing mail needs an unsubscribe link, and PUBLIC_URL is not set";
      return { kind: "defer", reason, at: new Date(Date.now() + 600_000) };
    }
    return sendMail(config, mail);
  },
});
