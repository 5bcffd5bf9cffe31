// The effect of a row of ai_email_queue.
import type { Config } from "../../config.ts";
import type { JobContext } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { sendMail, type Mail, type SendgridAccount } from "../../providers/sendgrid.ts";
import { openCredential } from "../credentials/store.ts";
import { deferUntilSet } from "../retry.ts";
import { render } from "../rendering/index.ts";
import { mailOf, mailTaskOf } from "./compose.ts";
import type { EmailRow } from "./load.ts";

export interface PreparedEmail {
  readonly mail: Mail;
  readonly account: SendgridAccount;
  readonly isMarketing: boolean;
}

/** Renders the mail and opens its account. Throws what makes the row fail or wait, as render and openCredential do. */
export async function prepareEmail(
  row: EmailRow,
  { config, now }: Pick<JobContext, "config" | "now">,
): Promise<PreparedEmail> {
  const account = accountOf(row, config);
  return { mail: await composeEmail(row, { config, now }), account, isMarketing: row.unsubscribe_token !== null };
}

export async function composeEmail(
  row: Omit<EmailRow, "attempts" | "max_attempts" | "credential">,
  { config, now }: Pick<JobContext, "config" | "now">,
): Promise<Mail> {
  const task = mailTaskOf(row, config);
  return mailOf(row, await render<"mail">(row.tenant_id, task, now), task, config);
}

/** The tenant's account if it has one, else the platform's. */
export function accountOf({ credential }: Pick<EmailRow, "credential">, config: Config): SendgridAccount {
  const baseUrl = config.SENDGRID_BASE_URL;
  if (credential === null) return { apiKey: config.SENDGRID_API_KEY ?? "", baseUrl, owner: "platform" };
  return { apiKey: openCredential("sendgrid", credential, config).api_key, baseUrl, owner: "tenant" };
}

/** Sends the mail, or defers it if blockedReason says so. */
export async function sendEmail(
  { mail, account, isMarketing }: PreparedEmail,
  { now }: Pick<JobContext, "now">,
): Promise<Outcome> {
  return (
    blockedReason(mail.from, isMarketing && mail.unsubscribeUrl === undefined, now) ?? sendMail(account, mail, now)
  );
}

/**
 * Why the mail cannot be sent yet, as the row's outcome: no From address, or marketing mail without an
 * unsubscribe link. Null if it can be sent.
 */
export function blockedReason(from: string, lacksLink: boolean, now: () => Date): Outcome | null {
  if (from === "") {
    const reason = "the tenant's SendGrid account needs settings.mail_from (set it, then call brainops.resume)";
    return { kind: "hold", scope: "tenant", reason };
  }
  return lacksLink ? deferUntilSet("marketing mail needs an unsubscribe link, and PUBLIC_URL is not set", now()) : null;
}
