// JSON schema errors -> SendGrid's error messages. Wording: twilio.com/docs/sendgrid/api-reference/mail-send/errors,
// and responses of the real service quoted in sendgrid-nodejs #1362, #1425, sendgrid-ruby #138, sendgrid-django #64.
import type { ErrorObject } from "ajv";
import type { SendgridError } from "./types.ts";

const helpPage = "http://sendgrid.com/docs/API_Reference/Web_API_v3/Mail/errors.html";

/** The error of a field. The help link omits indexes and the final `email`, as SendGrid's does. */
export function fieldError(field: string, message: string, anchor?: string): SendgridError {
  const named = field
    .split(".")
    .filter((part) => !/^\d+$/.test(part))
    .join(".")
    .replace(/\.email$/, "");
  return { message, field, help: `${helpPage}#${anchor ?? `message.${named}`}` };
}

export const messages = {
  personalizations: "The personalizations field is required and must have at least one personalization.",
  to: "The to array is required for all personalization objects, and must have at least one email object with a valid email address.",
  from: 'The from object must be provided for every email send. It is an object that requires the email parameter, but may also contain a name parameter.  e.g. {"email" : "example@example.com"}  or {"email" : "example@example.com", "name" : "Example Recipient"}.',
  subjectLength: "The subject of your email must be a string at least one character in length.",
  contentLength: "The content value must be a string at least one character in length.",
  sendAt:
    "The send_at parameter is expecting a UNIX timestamp as an integer. We will send immediately if you include a send_at timestamp that is in the past.",
} as const;

/** `<field without indexes>:<keyword>` -> the message; `value` is the value in the request. */
const fieldMessages: Record<string, (value: unknown) => string> = {
  "personalizations:required": () => messages.personalizations,
  "personalizations:maxItems": (value) =>
    `The personalization block is limited to 1000 personalizations per API request. You have provided ${count(value)} personalizations. Please consider splitting this into multiple requests and resending your request.`,
  "personalizations.to:required": () => messages.to,
  "personalizations.to.email:required": () => "The to email parameter is required.",
  "personalizations.cc.email:required": () => "The cc email parameter is required.",
  "personalizations.bcc.email:required": () => "The bcc email parameter is required.",
  "personalizations.subject:minLength": () => messages.subjectLength,
  "personalizations.send_at:type": () => messages.sendAt,
  "send_at:type": () => messages.sendAt,
  "from:required": () => messages.from,
  "from.email:required": () => messages.from,
  "from.email:format": () => "The from email does not contain a valid address.",
  "reply_to.email:format": () => "The reply_to email does not contain a valid address.",
  "subject:minLength": () => messages.subjectLength,
  "content.type:required": () => "A content type is required, this tells email clients how to display the email.",
  "content.type:minLength": () => "Your content type must be a string with length of at least one character.",
  "content.value:required": () => "A content value is required, this is the content of the email you are sending.",
  "content.value:minLength": () => messages.contentLength,
  "attachments.filename:required": () => "filename is required.",
  "attachments.content:minLength": () => "The attachment content must be a string at least one character in length.",
  "attachments.disposition:enum": (value) =>
    `The disposition of your attachment can be either "inline" or "attachment". You provided '${String(value)}'.`,
  "categories:maxItems": (value) =>
    `There is a limit of 10 categories for each email that is sent. You provided ${count(value)} categories.`,
  "categories:uniqueItems": (value) =>
    `The categories must be a unique list, and you have included '${repeated(value)}' more than once.`,
  "categories:maxLength": (value) =>
    `Each category must not be longer than 255 characters. '${String(value)}' exceeds this limit.`,
  "categories:type": () => "Categories must be an array of strings.",
  "asm.group_id:type": () => "The ASM group ID must be an integer.",
  "asm.groups_to_display:type": () => "The ASM Group IDs to display must be an array of integers.",
  "asm.groups_to_display:maxItems": () =>
    "There is a limit of 25 unsubscribe groups that can be displayed to a user at a time.",
  "mail_settings.sandbox_mode.enable:type": () => "The sandbox mode enable param should be a boolean value.",
};

export function fromSchemaError(error: ErrorObject, body: unknown): SendgridError {
  const path = error.instancePath.split("/").slice(1);
  if (error.keyword === "required") path.push(String(error.params["missingProperty"]));
  const name = path.filter((part) => !/^\d+$/.test(part)).join(".");
  // SendGrid names from.email if the whole object is missing.
  const field = name === "from" && error.keyword === "required" ? "from.email" : path.join(".");
  const value = error.keyword === "required" ? undefined : valueAt(body, path);
  const anchor = name === "personalizations" ? "-Personalizations-Errors" : undefined;
  return fieldError(field, fieldMessages[`${name}:${error.keyword}`]?.(value) ?? generic(error, value), anchor);
}

/** The messages of gojsonschema, which SendGrid uses (sendgrid-django #64). */
function generic(error: ErrorObject, value: unknown): string {
  if (error.keyword === "type")
    return `Invalid type. Expected: ${String(error.params["type"])}, given: ${typeName(value)}.`;
  if (error.keyword === "format") return "Does not contain a valid address.";
  return `Invalid value: it ${error.message ?? "does not fit the schema"}.`;
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return Number.isInteger(value) ? "integer" : typeof value;
}

function valueAt(body: unknown, path: string[]): unknown {
  return path.reduce<unknown>((node, part) => {
    const key = part.replaceAll("~1", "/").replaceAll("~0", "~");
    return typeof node === "object" && node !== null ? Reflect.get(node, key) : undefined;
  }, body);
}

function count(value: unknown): number {
  return Array.isArray(value) ? value.length : 0;
}

function repeated(value: unknown): string {
  return Array.isArray(value) ? String(value.find((item, index) => value.indexOf(item) !== index)) : "";
}
