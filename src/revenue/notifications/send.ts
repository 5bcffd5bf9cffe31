// The effect of a row of tenant_notifications: a message to the tenant's Slack if it has a credential,
// else a mail.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { BrainOpsError, codeOf, messageOf } from "../../errors.ts";
import { postToSlack } from "../../providers/slack.ts";
import { openCredential, type SealedCredential } from "../credentials/store.ts";
import { deferUntilSet } from "../retry.ts";

export interface NotificationRow extends JobRow {
  readonly subject: string;
  readonly body: string;
  /** settings.notify_email; null if it is not set. */
  readonly notify_email: string | null;
  readonly credential: SealedCredential | null;
}

export const loadNotifications = `
  select id, tenant_id, attempts, max_attempts, subject, body, notify_email, credential
  from brainops_internal.load_tenant_notifications($1)
`;

/** Sends the notification. If Slack rejects it, or the credential cannot be opened, a mail is sent instead. */
export async function sendNotification(row: NotificationRow, context: JobContext): Promise<Outcome> {
  if (row.credential === null) return mail(row, context, null);
  let url: string;
  try {
    url = openCredential("slack", row.credential, context.config).webhook_url;
  } catch (error) {
    if (error instanceof BrainOpsError) return mail(row, context, error.message);
    throw error;
  }
  const { config, now, signal } = context;
  const how = { baseUrl: config.SLACK_BASE_URL, now, signal };
  const outcome = await postToSlack(url, { title: row.subject, text: row.body }, how);
  return outcome.kind === "fail" ? mail(row, context, outcome.reason) : outcome;
}

async function mail(row: NotificationRow, context: JobContext, slackProblem: string | null): Promise<Outcome> {
  if (row.notify_email === null) {
    const problem = slackProblem ?? "the tenant has no Slack credential";
    return deferUntilSet(
      `${problem}; set it (brainops tenant credential set), or set settings.notify_email`,
      context.now(),
    );
  }
  try {
    await context.query("select brainops_internal.mail_notification($1)", [row.id]);
  } catch (error) {
    // One of our error codes: the mail is invalid, and a retry cannot succeed.
    if (codeOf(error)?.startsWith("OP") !== true) throw error;
    return { kind: "fail", reason: `settings.notify_email: ${messageOf(error)}` };
  }
  return { kind: "completed", result: { sent_via: "email", sent_at: context.now() } };
}
