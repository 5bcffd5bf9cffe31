// One SendGrid call that sends the same content to many recipients: each has a personalization with
// the values of its substitution tags, its row id and its unsubscribe link.
import { splitMailbox } from "../emailAddress.ts";
import { unsent, type Result, type Outcome } from "../jobs/outcome.ts";
import { watchRequests } from "../jobs/requests.ts";
import { classify, messageIdOf, refusedPlaces, request, unsubscribeHeaders, type SendgridAccount } from "./sendgrid.ts";

export interface BulkMail {
  /** "name <address>" or an address. */
  readonly from: string;
  readonly fromTenant: boolean;
  /** Subject, html and text contain tags where recipients differ. */
  readonly subject: string;
  readonly html: string;
  readonly text: string;
  readonly replyTo?: string;
  readonly category?: string;
}

export interface BulkRecipient {
  /** Id of the row in ai_email_queue; sent as custom argument bo_msg, which every event returns. */
  readonly rowId: string;
  readonly to: string;
  /** Tag -> the value that SendGrid replaces it with. */
  readonly substitutions: Readonly<Record<string, string>>;
  readonly unsubscribeUrl: string;
}

/** SendGrid's limits: recipients per call, bytes of one recipient's substitutions as JSON. */
export const MAX_RECIPIENTS = 1000;
export const MAX_SUBSTITUTION_BYTES = 10_000;

// A 400 names the recipients it rejects. The call is repeated without them this many times; after
// that, the remaining recipients fail as well.
const MAX_REFUSALS = 5;

/**
 * Sends to up to MAX_RECIPIENTS recipients and returns a result for each, in order. Never throws.
 * If SendGrid rejects some recipients (400: nothing was sent), only these fail; the call is repeated
 * with the others.
 */
export async function sendBulk(
  account: SendgridAccount,
  mail: BulkMail,
  recipients: readonly BulkRecipient[],
  now: () => Date,
): Promise<Result[]> {
  const ends = new Map<string, Result>();
  let left = recipients;
  for (let refusals = 0; left.length > 0; refusals += 1) {
    const watch = watchRequests();
    try {
      const response = await watch.run(async () => request(account, "/v3/mail/send", bodyOf(mail, left)));
      const result = { sent_at: now(), provider_message_id: messageIdOf(response) };
      note(ends, left, { kind: "completed", result }, true);
      break;
    } catch (error) {
      if (!watch.begun) {
        note(ends, left, unsent(error), false);
        break;
      }
      const outcome = classify(error, now(), { owner: account.owner, fromTenant: mail.fromTenant });
      const places = refusals < MAX_REFUSALS ? refusedPlaces(error) : new Set<number>();
      const refused = left.filter((_, place) => places.has(place));
      note(ends, refused.length === 0 ? left : refused, outcome, true);
      if (refused.length === 0) break;
      left = left.filter((_, place) => !places.has(place));
    }
  }
  return recipients.map(({ rowId }) => ends.get(rowId) ?? { outcome: lost, providerCalled: false });
}

const lost: Outcome = { kind: "unconfirmed", reason: "the call to SendGrid returned no result for this row" };

/** Only the first recipient counts for the circuit breaker: one call is one result of the provider account. */
function note(
  ends: Map<string, Result>,
  recipients: readonly BulkRecipient[],
  outcome: Outcome,
  isCalled: boolean,
): void {
  for (const [place, { rowId }] of recipients.entries()) {
    ends.set(rowId, { outcome, providerCalled: isCalled && place === 0 });
  }
}

function bodyOf(mail: BulkMail, recipients: readonly BulkRecipient[]): string {
  return JSON.stringify({
    from: addressOf(mail.from),
    subject: mail.subject,
    // text/plain must come first: SendGrid rejects the other order.
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

function addressOf(mailbox: string): { email: string; name?: string } {
  const { name, address } = splitMailbox(mailbox);
  return name === "" ? { email: address } : { email: address, name };
}
