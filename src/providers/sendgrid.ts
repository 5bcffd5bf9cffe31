// SendGrid, thin over its SDK: one client for each credential (the SDK's own default is a
// singleton of the process, which races between tenants), and what its answers mean.
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import sendgridClient from "@sendgrid/client";
import sendgridHelpers from "@sendgrid/helpers";
import sendgridMail from "@sendgrid/mail";
import { z } from "zod";
import { codeOf, messageOf } from "../errors.ts";
import type { Outcome } from "../jobs/outcome.ts";

/** Through whose account a mail goes. */
export interface SendgridAccount {
  readonly apiKey: string;
  readonly baseUrl: string;
  /** Whether it is the tenant's own, and not the installation's. */
  readonly own: boolean;
}

export interface Mail {
  /** Row of ai_email_queue; travels as custom arg bo_msg, and comes back in every event. */
  readonly rowId: string;
  readonly to: string;
  /** "name <address>" or an address. */
  readonly from: string;
  /** Whether `from` is the tenant's own (settings.mail_from) and not MAIL_FROM. */
  readonly fromTenant: boolean;
  readonly subject: string;
  readonly html: string;
  readonly text: string;
  readonly replyTo?: string;
  readonly category?: string;
  /** Set for marketing: adds the headers of RFC 8058. */
  readonly unsubscribeUrl?: string;
}

// Shorter than the table's time limit, so that the outcome is written by the handler itself.
const TIMEOUT_MS = 15_000;

// The classes are there at run time, but the SDK's types hide them from ES modules.
const { Client } = sendgridClient as typeof sendgridClient & { Client: new () => typeof sendgridClient };
type MailService = typeof sendgridMail;
const { Mail: Message } = sendgridHelpers.classes;
const { MailService: Service } = sendgridMail as MailService & { MailService: new () => MailService };

interface Line {
  /** For single mails. */
  readonly service: MailService;
  /** For batches: the service above would copy each of 1,000 recipients several times. */
  readonly client: InstanceType<typeof Client>;
}

const MOST_LINES = 500;
const lines = new Map<string, Line>();

function lineTo({ apiKey, baseUrl }: SendgridAccount): Line {
  const key = `${baseUrl} ${apiKey}`;
  const known = lines.get(key);
  if (known !== undefined) return known;
  const client = new Client();
  client.setApiKey(apiKey);
  // After setApiKey, which resets it.
  client.setDefaultRequest("baseUrl", `${baseUrl.replace(/\/$/, "")}/`);
  // The SDK hands these on to axios; its types do not know them.
  const setDefault = client.setDefaultRequest.bind(client) as (name: string, value: unknown) => void;
  setDefault("httpAgent", new HttpAgent({ keepAlive: true, maxSockets: 200 }));
  setDefault("httpsAgent", new HttpsAgent({ keepAlive: true, maxSockets: 200 }));
  setDefault("maxRedirects", 0);
  // axios's own would parse a batch's JSON once more, to see whether it is any.
  setDefault("transformRequest", (body: unknown) => (typeof body === "string" ? body : JSON.stringify(body)));
  setDefault("timeout", TIMEOUT_MS);
  const service = new Service();
  service.setClient(client);
  service.setTimeout(TIMEOUT_MS);
  // The oldest goes: what it has under way ends all the same.
  const [oldest] = lines.keys();
  if (lines.size >= MOST_LINES && oldest !== undefined) lines.delete(oldest);
  const line = { service, client };
  lines.set(key, line);
  return line;
}

/** Sends one mail. Never throws: whatever happens is an outcome. */
export async function sendMail(account: SendgridAccount, mail: Mail, now: () => Date): Promise<Outcome> {
  try {
    const [response] = await lineTo(account).service.send(requestOf(mail));
    return { kind: "completed", result: { sent_at: now(), provider_message_id: messageIdOf(response) } };
  } catch (error) {
    return classify(error, now(), { ownAccount: account.own, fromTenant: mail.fromTenant });
  }
}

const sentShape = z.object({ "x-message-id": z.string() });

export function messageIdOf({ headers }: { readonly headers: unknown }): string | null {
  return sentShape.safeParse(headers).data?.["x-message-id"] ?? null;
}

/** One request to the API through the account's own client, on the SDK's terms. */
export function request(account: SendgridAccount, url: string, body: string): Promise<{ headers: unknown }> {
  return lineTo(account)
    .client.request({ method: "POST", url, body, headers: { "content-type": "application/json" } })
    .then(([response]) => response);
}

type MailData = Exclude<Parameters<MailService["send"]>[0], readonly unknown[]>;

/** Filled in by setters: from data, the SDK would copy the whole mail several times before it reads it. */
function requestOf(mail: Mail): MailData {
  const message = new Message();
  message.addPersonalization({ to: mail.to });
  message.setFrom(mail.from);
  message.setSubject(mail.subject);
  // text before html: SendGrid refuses the other order.
  message.setContent([
    { type: "text/plain", value: mail.text },
    { type: "text/html", value: mail.html },
  ]);
  message.setCustomArgs({ bo_msg: mail.rowId });
  if (mail.unsubscribeUrl !== undefined) message.setHeaders(unsubscribeHeaders(mail.unsubscribeUrl));
  if (mail.replyTo !== undefined) message.setReplyTo(mail.replyTo);
  if (mail.category !== undefined) message.setCategories([mail.category]);
  // send() takes one as it is; its types tell of data alone.
  return message as unknown as MailData;
}

/** RFC 8058. */
export function unsubscribeHeaders(url: string): Record<string, string> {
  return { "List-Unsubscribe": `<${url}>`, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" };
}

const answerShape = z.object({
  response: z.object({
    headers: z.looseObject({}).default({}), // an object of axios's own class
    body: z.unknown(),
  }),
  code: z.number(),
});
const errorsShape = z.object({
  errors: z.array(z.object({ message: z.string(), field: z.string().nullish() })).min(1),
});

// Nothing of the request has left this machine.
const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);

/**
 * What an error of the SDK means. With an answer: by its status. Without one: whether the mail was
 * taken is unknown unless the connection was never made, and SendGrid has no idempotency key, so
 * it must not be sent again. A 5xx counts as unknown too: SendGrid answers some after accepting.
 */
export function classify(
  error: unknown,
  now: Date,
  { ownAccount = false, fromTenant = false }: { ownAccount?: boolean; fromTenant?: boolean } = {},
): Outcome {
  const answer = answerShape.safeParse(error);
  if (!answer.success) {
    const code = codeOf(error) ?? "";
    const reason = `SendGrid gave no answer: ${messageOf(error)}`;
    return NOT_SENT.has(code) ? { kind: "retry", reason } : { kind: "unconfirmed", reason };
  }
  const { code: status, response } = answer.data;
  const reason = `SendGrid answered ${status}: ${textOf(response.body)}`;
  if (status === 429) return { kind: "defer", reason, at: resetTime(response.headers, now), holdsAccount: true };
  if ((status === 401 || status === 403) && ownAccount) {
    return {
      kind: "hold",
      scope: "tenant",
      reason: `${reason} (check the tenant's own SendGrid key and settings.mail_from, then brainops.resume)`,
    };
  }
  if (status === 403 && fromTenant) {
    return {
      kind: "hold",
      scope: "tenant",
      reason: `${reason} (verify the tenant's settings.mail_from with SendGrid, then brainops.resume)`,
    };
  }
  if (status === 401 || status === 403) {
    return {
      kind: "hold",
      scope: "everyone",
      reason: `${reason} (check SENDGRID_API_KEY and MAIL_FROM, then brainops.resume)`,
    };
  }
  return status >= 500 ? { kind: "unconfirmed", reason } : { kind: "fail", reason };
}

/** Which personalizations a 400 is about, by their places; empty where it names none, or more than them. */
export function refusedPlaces(error: unknown): Set<number> {
  const answer = answerShape.safeParse(error).data;
  const body: unknown = answer?.response.body;
  const parsed = answer?.code === 400 ? errorsShape.safeParse(typeof body === "string" ? safeJson(body) : body) : null;
  const places = (parsed?.data?.errors ?? []).map(({ field }) => /^personalizations\.(\d+)\b/.exec(field ?? "")?.[1]);
  return places.includes(undefined) ? new Set() : new Set(places.map(Number));
}

function textOf(body: unknown): string {
  const parsed = errorsShape.safeParse(typeof body === "string" ? safeJson(body) : body);
  if (!parsed.success) return "no reason given";
  return parsed.data.errors.map(({ message, field }) => (field ? `${field}: ${message}` : message)).join("; ");
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** X-RateLimit-Reset is in unix seconds; without it, half a minute. Never more than an hour. */
function resetTime(headers: Readonly<Record<string, unknown>>, now: Date): Date {
  const reset = Number(headers["x-ratelimit-reset"]) * 1000;
  const soonest = now.getTime() + 1000;
  const latest = now.getTime() + 3_600_000;
  return new Date(
    Number.isFinite(reset) && reset > 0 ? Math.min(Math.max(reset, soonest), latest) : now.getTime() + 30_000,
  );
}
