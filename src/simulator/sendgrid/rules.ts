// Rules that SendGrid documents but its schema can't express. Sources: twilio.com/docs/sendgrid/api-reference/mail-send
// ("Limitations") and .../mail-send/errors, descriptions in sendgrid_mail_v3.yaml. Each rule yields SendGrid's errors.
import { fieldError, messages } from "./schema-errors.ts";
import type { MailSend, Personalization, SendgridError, StringMap } from "./types.ts";

/** "The total number of recipients must be no more than 1000. This includes all to, cc and bcc." */
const maxRecipients = 1000;
/** custom_args and substitutions: "may not exceed 10,000 bytes", stricter than the 50,000 of the errors page since 2025. */
const maxMapBytes = 10_000;
/** "A send cannot be scheduled more than 72 hours in advance." A time in the past means now. */
const maxAheadSeconds = 72 * 3600;
const reservedHeaders = new Set(
  "x-sg-id x-sg-eid received dkim-signature content-type content-transfer-encoding to from subject reply-to cc bcc".split(
    " ",
  ),
);

type Errors = Generator<SendgridError>;

/** All violated rules of a body that conforms to the schema. `now` is in Unix seconds. */
export function* brokenRules(mail: MailSend, now: number): Errors {
  yield* recipients(mail);
  yield* subject(mail);
  yield* content(mail);
  yield* headers(mail.headers, "headers");
  yield* customArgs(mail.custom_args, "custom_args");
  yield* sendAt(mail.send_at, "send_at", now);
  for (const [index, personalization] of mail.personalizations.entries()) {
    const at = `personalizations.${index}`;
    yield* addresses(personalization, at);
    yield* headers(personalization.headers, `${at}.headers`);
    yield* customArgs(personalization.custom_args, `${at}.custom_args`, mail.custom_args);
    yield* substitutions(personalization, at, mail.template_id);
    yield* sendAt(personalization.send_at, `${at}.send_at`, now);
  }
  yield* categories(mail.categories ?? []);
  yield* attachments(mail);
  if (mail.reply_to !== undefined && mail.reply_to_list !== undefined) {
    yield fieldError(
      "reply_to_list",
      "You can use either the reply_to property or reply_to_list property but not both.",
    );
  }
}

function* recipients(mail: MailSend): Errors {
  if (mail.personalizations.length === 0) {
    yield fieldError("personalizations", messages.personalizations, "-Personalizations-Errors");
  }
  const total = mail.personalizations.reduce((sum, each) => sum + allOf(each).length, 0);
  if (total > maxRecipients) {
    yield fieldError("personalizations", "There is a limit of 1000 total recipients (to + cc + bcc) per request.");
  }
}

function allOf(personalization: Personalization): { email: string; name?: string }[] {
  return [...personalization.to, ...(personalization.cc ?? []), ...(personalization.bcc ?? [])];
}

function* addresses(personalization: Personalization, at: string): Errors {
  if (personalization.to.length === 0) yield fieldError(`${at}.to`, messages.to);
  const seen = new Set<string>();
  for (const list of ["to", "cc", "bcc"] as const) {
    for (const [index, address] of (personalization[list] ?? []).entries()) {
      if (/[;,]/.test(address.name ?? "")) {
        yield fieldError(`${at}.${list}.${index}.name`, "The name cannot contain ';' or ',' characters.");
      }
      const key = address.email.toLowerCase();
      if (seen.has(key)) {
        yield fieldError(
          at,
          `Each email address in the personalization block should be unique between to, cc, and bcc. We found the first duplicate instance of [${address.email}] in the ${at}.${list} field.`,
          "message.recipient-errors",
        );
        return;
      }
      seen.add(key);
    }
  }
}

function* subject(mail: MailSend): Errors {
  if (mail.subject !== undefined || mail.template_id !== undefined) return;
  if (mail.personalizations.every((each) => each.subject !== undefined)) return;
  yield fieldError(
    "subject",
    "The subject is required. You can get around this requirement if you use a template with a subject defined or if every personalization has a subject defined.",
  );
}

function* content(mail: MailSend): Errors {
  const types = (mail.content ?? []).map((part) => part.type.toLowerCase());
  if (types.length === 0 && mail.template_id === undefined) {
    yield fieldError(
      "content",
      "Unless a valid template_id is provided, the content parameter is required. There must be at least one defined content block. We typically suggest both text/plain and text/html blocks are included, but only one block is required.",
    );
  }
  const order = types.map((type) => ["text/plain", "text/html"].indexOf(type)).map((rank) => (rank < 0 ? 2 : rank));
  if (order.some((rank, index) => rank < (order[index - 1] ?? 0))) {
    yield fieldError(
      "content",
      "Following RFC 1341, section 7.2, if either text/html or text/plain are to be sent in your email: text/plain needs to be first, followed by text/html, followed by any other content.",
    );
  }
  if ([0, 1].some((rank) => order.filter((each) => each === rank).length > 1)) {
    yield fieldError("content", "If present, text/plain and text/html may only be provided once.");
  }
  for (const [index, type] of types.entries()) {
    if (/[;\r\n]/.test(type)) yield fieldError(`content.${index}.type`, "Cannot contain ';', or CRLF characters.");
  }
}

function* headers(map: StringMap | undefined, at: string): Errors {
  for (const [name, value] of Object.entries(map ?? {})) {
    if (typeof value !== "string") yield fieldError(at, "The header values must be strings.");
    if (!/^[\x21-\x7e]+$/.test(name)) {
      yield fieldError(at, "Header keys can't contain non-ASCII characters and empty spaces.");
    }
    if (reservedHeaders.has(name.toLowerCase())) yield fieldError(at, "Header can not be one of the reserved keys.");
  }
}

/** The limit applies to the merged arguments of a personalization and the request. */
function* customArgs(map: StringMap | undefined, at: string, inherited: StringMap = {}): Errors {
  if (map === undefined) return;
  // sendgrid-nodejs #288: a number is rejected, not converted to text.
  if (Object.values(map).some((value) => typeof value !== "string")) {
    yield fieldError(at, "All values of custom arguments object must be strings");
  }
  if (Buffer.byteLength(JSON.stringify({ ...inherited, ...map })) >= maxMapBytes) {
    yield fieldError(
      at,
      "The combined size of both global and personalization custom arguments may not exceed 10,000 bytes per personalization.",
    );
  }
}

function* substitutions(personalization: Personalization, at: string, templateId: string | undefined): Errors {
  if (personalization.substitutions === undefined) return;
  if (templateId?.startsWith("d-") === true) {
    yield fieldError(`${at}.substitutions`, "Substitutions may not be used with dynamic templating");
  }
  if (Buffer.byteLength(JSON.stringify(personalization.substitutions)) > maxMapBytes) {
    yield fieldError(`${at}.substitutions`, "The total size of your substitutions may not exceed 10,000 bytes.");
  }
}

function* sendAt(value: number | undefined, at: string, now: number): Errors {
  if (value !== undefined && value > now + maxAheadSeconds) {
    yield fieldError(at, "Scheduling more than 72 hours in advance is forbidden.");
  }
}

function* categories(names: readonly string[]): Errors {
  // oxlint-disable-next-line no-control-regex -- the rule is about ASCII, control characters included
  if (names.some((name) => /[^\x00-\x7f]/.test(name))) {
    yield fieldError("categories", "Categories can not contain non-ASCII characters.");
  }
}

function* attachments(mail: MailSend): Errors {
  for (const [index, attachment] of (mail.attachments ?? []).entries()) {
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(attachment.content) || attachment.content.length % 4 !== 0) {
      yield fieldError(`attachments.${index}.content`, "The attachment content must be base64 encoded.");
    }
  }
}
