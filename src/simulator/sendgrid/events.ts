// The webhook events of a message, selected by the recipient's local part.
// Fields: twilio.com/docs/sendgrid/for-developers/tracking-events/event, and real payloads quoted in sendgrid/docs
// #3675, #5177, #1533 (tls is a number) and spatie/mailcoach-support #239 (format of the ids).
import type { AcceptedMessage, SendgridEvent } from "./types.ts";

type Fields = Record<string, unknown>;
/** An event without its common fields. `bare`: the fields that an asynchronous bounce lacks. */
type Step = { event: string; fields?: Fields; bare?: "no message id" | "no ids" };

const ip = "198.51.100.25";
const person = { ip: "203.0.113.7", useragent: "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36" };
/** Apple Mail Privacy Protection opens every mail from its own servers. */
const machine = { ip: "203.0.113.9", useragent: "Mozilla/5.0" };
const link = "https://example.com/offer";

const processed: Step = { event: "processed" };
const delivered: Step = {
  event: "delivered",
  fields: { response: "250 2.0.0 OK 1700000000 x9si27482000qtc.8 - gsmtp", ip, tls: 1 },
};
const deferred: Step = {
  event: "deferred",
  fields: { response: "421 4.7.0 Try again later, closing connection.", attempt: "1", ip, tls: 0 },
};
const opened: Step = { event: "open", fields: { ...person, sg_machine_open: false, sg_content_type: "html" } };
const clicked: Step = { event: "click", fields: { ...person, url: link, url_offset: { index: 0, type: "html" } } };

function bounce(type: string, status: string | null, classification: string, reason: string): Step {
  const known = status === null ? {} : { status };
  return { event: "bounce", fields: { type, ...known, reason, bounce_classification: classification, ip, tls: 1 } };
}

function dropped(reason: string): Step[] {
  return [{ event: "dropped", fields: { reason } }];
}

const unknownUser = bounce(
  "bounce",
  "5.1.1",
  "Invalid Address",
  "550 5.1.1 The email account that you tried to reach does not exist.",
);

/** Prefix of the local part -> events. The first match wins; README.md has the same list. */
const behaviours: readonly (readonly [prefix: string, steps: readonly Step[]])[] = [
  ["bounce", [processed, unknownUser]],
  ["asyncbounce", [processed, delivered, { ...unknownUser, bare: "no message id" }]],
  ["lostbounce", [processed, delivered, { ...unknownUser, bare: "no ids" }]],
  ["nostatus", [processed, bounce("bounce", null, "Unclassified", "unable to get mx info: no such host")]],
  ["full", [processed, bounce("bounce", "5.2.2", "Mailbox Unavailable", "552 5.2.2 The recipient's inbox is full.")]],
  ["blocked", [processed, bounce("blocked", "5.7.1", "Reputation", "550 5.7.1 Service unavailable; client blocked.")]],
  ["deferred", [processed, deferred]],
  ["late", [processed, deferred, delivered]],
  ["expired", [processed, deferred, bounce("expired", "4.4.7", "Technical Failure", "unable to deliver in 72 hours")]],
  ["dropunsub", dropped("Unsubscribed Address")],
  ["dropspam", dropped("Spam Reporting Address")],
  ["dropcontent", dropped("Spam Content")],
  ["dropquota", dropped("Recipient List over Package Quota")],
  ["drop", dropped("Bounced Address")],
  ["spam", [processed, delivered, { event: "spamreport" }]],
  ["unsub", [processed, delivered, { event: "unsubscribe" }]],
  ["groupunsub", [processed, delivered, { event: "group_unsubscribe", fields: { ...person, url: link } }]],
  ["groupresub", [processed, delivered, { event: "group_resubscribe", fields: { ...person, url: link } }]],
  ["machine", [processed, delivered, { event: "open", fields: { ...machine, sg_machine_open: true } }]],
  ["open", [processed, delivered, opened]],
  ["click", [processed, delivered, opened, clicked]],
];
const wellBehaved = [processed, delivered];
/** Delivery events contain smtp-id; engagement events do not. */
const deliveryEvents = new Set(["processed", "deferred", "delivered", "bounce", "dropped"]);

/** Creates events. Counts recipients, so that ids are unique even within one request. */
export class EventSource {
  #recipients = 0;

  eventsOf(message: AcceptedMessage): SendgridEvent[] {
    return [...message.to, ...message.cc, ...message.bcc].flatMap(({ email }) => this.#ofRecipient(message, email));
  }

  #ofRecipient(message: AcceptedMessage, email: string): SendgridEvent[] {
    const local = email.toLowerCase();
    const steps = behaviours.find(([prefix]) => local.startsWith(prefix))?.[1] ?? wellBehaved;
    const recipient = ++this.#recipients;
    const timestamp = Math.floor(message.at / 1000);
    return steps.map((step, index) => ({
      ...(step.bare === undefined ? carried(message) : {}),
      email,
      timestamp,
      event: step.event,
      sg_event_id: eventId(`${step.event}-${index}-${recipient}-${message.messageId}`),
      ...identity(step, message, recipient),
      ...(step.event === "processed" ? { send_at: message.sendAt ?? 0 } : {}),
      ...(step.event.startsWith("group_") ? { asm_group_id: message.asmGroupId ?? 0 } : {}),
      ...step.fields,
    }));
  }
}

/** sg_event_id: base64 of a text like `bounce-0-16845343-<message>-0` (mailcoach-support #239), at most 100 characters. */
function eventId(text: string): string {
  return Buffer.from(text).toString("base64url");
}

/** "Custom arguments are flattened to the top level"; category is a list, as in the request. */
function carried(message: AcceptedMessage): Fields {
  return { ...message.customArgs, ...(message.categories.length > 0 ? { category: message.categories } : {}) };
}

/**
 * sg_message_id is X-Message-Id, a dot, and the receiving server. A bounce that arrives hours later as a mail of its own
 * can't be matched to its message: it lacks sg_message_id and the custom arguments, sometimes smtp-id too (docs #5177).
 */
function identity(step: Step, message: AcceptedMessage, recipient: number): Fields {
  if (step.bare === "no ids") return {};
  const smtp = deliveryEvents.has(step.event) ? { "smtp-id": `<${message.messageId}@geopod-ismtpd-1>` } : {};
  if (step.bare === "no message id") return smtp;
  const received = `recvd-5f54b5d587-pbk2w-1-${Math.floor(message.at / 1000)
    .toString(16)
    .toUpperCase()}-${recipient.toString(16).toUpperCase()}.0`;
  return { ...smtp, sg_message_id: `${message.messageId}.${received}` };
}
