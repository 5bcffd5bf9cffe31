// One content to many recipients in one call of SendGrid: a personalization each, with the values
// that stand in for its tags, its own id and its own way to unsubscribe.
import type { Outcome, Result } from "../jobs/outcome.ts";
import { classify, messageIdOf, refusedPlaces, request, unsubscribeHeaders, type SendgridAccount } from "./sendgrid.ts";

export interface BatchMail {
  /** "name <address>" or an address. */
  readonly from: string;
  readonly fromTenant: boolean;
  /** With tags where recipients differ. */
  readonly subject: string;
  readonly html: string;
  readonly text: string;
  readonly replyTo?: string;
  readonly category?: string;
}

export interface BatchRecipient {
  /** Row of ai_email_queue; travels as custom arg bo_msg, and comes back in every event. */
  readonly rowId: string;
  readonly to: string;
  /** Tag -> what stands in its place. */
  readonly substitutions: Readonly<Record<string, string>>;
  readonly unsubscribeUrl: string;
}

/** SendGrid's limits: recipients of a call, bytes of a recipient's substitutions. */
export const MOST_RECIPIENTS = 1000;
export const MOST_SUBSTITUTION_BYTES = 10_000;

// A refusal names whom it is about; each of these asks without them. What is left then is refused too.
const MOST_REFUSALS = 5;

/**
 * Sends to up to 1,000 recipients. Never throws: how it ended for each, in order. A refusal of some
 * (400, so nothing was sent) is theirs alone: the others are sent without them.
 */
export async function sendBatch(
  account: SendgridAccount,
  mail: BatchMail,
  recipients: readonly BatchRecipient[],
  now: () => Date,
): Promise<Result[]> {
  const ends = new Map<string, Result>();
  let left = recipients;
  for (let refusals = 0; left.length > 0; refusals += 1) {
    try {
      const response = await request(account, "/v3/mail/send", bodyOf(mail, left));
      const result = { sent_at: now(), provider_message_id: messageIdOf(response) };
      note(ends, left, { kind: "completed", result });
      break;
    } catch (error) {
      const outcome = classify(error, now(), { ownAccount: account.own, fromTenant: mail.fromTenant });
      const places = refusals < MOST_REFUSALS ? refusedPlaces(error) : new Set<number>();
      const refused = left.filter((_, place) => places.has(place));
      note(ends, refused.length === 0 ? left : refused, outcome);
      if (refused.length === 0) break;
      left = left.filter((_, place) => !places.has(place));
    }
  }
  return recipients.map(({ rowId }) => ends.get(rowId) ?? { outcome: lost, providerCalled: false });
}

const lost: Outcome = { kind: "unconfirmed", reason: "nothing is known of its call to SendGrid" };

/** One call is one word on the sender, however many it carried. */
function note(ends: Map<string, Result>, recipients: readonly BatchRecipient[], outcome: Outcome): void {
  for (const [place, { rowId }] of recipients.entries()) ends.set(rowId, { outcome, providerCalled: place === 0 });
}

function bodyOf(mail: BatchMail, recipients: readonly BatchRecipient[]): string {
  return JSON.stringify({
    from: addressOf(mail.from),
    subject: mail.subject,
    // text before html: SendGrid refuses the other order.
    content: [
      { type: "text/plain", value: mail.text },
      { type: "text/html", value: mail.html },
    ],
    ...(mail.replyTo === undefined ? {} : { reply_to: addressOf(mail.replyTo) }),
    ...(mail.category === undefined ? {} : { categories: [mail.category] }),
    personalizations: recipients.map(({ rowId, to, substitutions, unsubscribeUrl }) => ({
      to: [{ email: to }],
      custom_args: { bo_msg: rowId },
      headers: unsubscribeHeaders(unsubscribeUrl),
      ...(Object.keys(substitutions).length === 0 ? {} : { substitutions }),
    })),
  });
}

function addressOf(written: string): { email: string; name?: string } {
  const [, name = "", email = ""] = /^\s*"?([^"<]*)"?\s*<([^<>]+)>\s*$/.exec(written) ?? [];
  if (email === "") return { email: written.trim() };
  return name.trim() === "" ? { email: email.trim() } : { email: email.trim(), name: name.trim() };
}
