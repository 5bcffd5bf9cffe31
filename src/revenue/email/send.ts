// The effect of a row of ai_email_queue.
import type { Config } from "../../config.ts";
import type { JobContext } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { sendMail, type Mail, type SendgridAccount } from "../../providers/sendgrid.ts";
import { openCredential } from "../credentials/store.ts";
import { composeEmail } from "./compose.ts";
import type { EmailRow } from "./load.ts";

const ASK_AGAIN_MS = 10 * 60_000;

export interface PreparedEmail {
  readonly mail: Mail;
  readonly account: SendgridAccount;
  readonly isMarketing: boolean;
}

export function prepareEmail(row: EmailRow, config: Config): PreparedEmail {
  const account = accountOf(row, config);
  return { mail: composeEmail(row, config), account, isMarketing: row.unsubscribe_token !== null };
}

/** The tenant's own account where it has one, else the installation's. */
export function accountOf({ credential }: Pick<EmailRow, "credential">, config: Config): SendgridAccount {
  const baseUrl = config.SENDGRID_BASE_URL;
  if (credential === null) return { apiKey: config.SENDGRID_API_KEY ?? "", baseUrl, own: false };
  return { apiKey: openCredential("sendgrid", credential, config).api_key, baseUrl, own: true };
}

/** Sends the mail. Marketing without a way out of it waits instead, and says what it waits for. */
export async function sendEmail(
  { mail, account, isMarketing }: PreparedEmail,
  { now }: Pick<JobContext, "now">,
): Promise<Outcome> {
  return whyNot(mail.from, isMarketing && mail.unsubscribeUrl === undefined, now) ?? sendMail(account, mail, now);
}

/** What a mail waits for that lacks a sender, or (marketing) a way out of it; null where it may go. */
export function whyNot(from: string, lacksLink: boolean, now: () => Date): Outcome | null {
  if (from === "") {
    const reason = "the tenant's own SendGrid account needs settings.mail_from (set it, then brainops.resume)";
    return { kind: "hold", scope: "tenant", reason };
  }
  if (lacksLink) {
    const reason = "waiting: marketing mail needs an unsubscribe link, and PUBLIC_URL is not set";
    return { kind: "defer", reason, at: new Date(now().getTime() + ASK_AGAIN_MS) };
  }
  return null;
}
