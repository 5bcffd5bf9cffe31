// The effect of a row of ai_email_queue.
import type { Config } from "../../config.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { sendMail, type Mail } from "../../providers/sendgrid.ts";
import { composeEmail } from "./compose.ts";
import type { EmailRow } from "./load.ts";

const ASK_AGAIN_MS = 10 * 60_000;

export interface PreparedEmail {
  readonly mail: Mail;
  readonly isMarketing: boolean;
}

export function prepareEmail(row: EmailRow, config: Config): PreparedEmail {
  return { mail: composeEmail(row, config), isMarketing: row.unsubscribe_token !== null };
}

/** Sends the mail. Marketing without a way out of it waits instead, and says what it waits for. */
export async function sendEmail({ mail, isMarketing }: PreparedEmail, config: Config): Promise<Outcome> {
  if (isMarketing && mail.unsubscribeUrl === undefined) {
    const reason = "waiting: marketing mail needs an unsubscribe link, and PUBLIC_URL is not set";
    return { kind: "defer", reason, at: new Date(Date.now() + ASK_AGAIN_MS) };
  }
  return sendMail(config, mail);
}
