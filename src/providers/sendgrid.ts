// SendGrid, a thin layer over its SDK: one client per credential (the SDK's default client is a singleton that all
// tenants of the process would share), and the mapping of its answers to outcomes.
import { Agent as HttpAgent } from "node:http";
import { Agent as HttpsAgent } from "node:https";
import sendgridClient from "@sendgrid/client";
import sendgridHelpers from "@sendgrid/helpers";
import sendgridMail from "@sendgrid/mail";
import { z } from "zod";
import { codeOf, messageOf } from "../errors.ts";
import { unsent, type Outcome } from "../jobs/outcome.ts";
import { watchRequests } from "../jobs/requests.ts";
import { isUnreached, type AccountOwner } from "./account.ts";

/** The account that sends a mail. */
export interface SendgridAccount {
  readonly apiKey: string;
  readonly baseUrl: string;
  readonly owner: AccountOwner;
}

export interface Mail {
  /** Id of the row in ai_email_queue; sent as custom argument bo_msg, which every event returns. */
  readonly rowId: string;
  readonly to: string;
  /** "name <address>" or an address. */
  readonly from: string;
  /** Whether `from` is the tenant's settings.mail_from; false for MAIL_FROM. */
  readonly fromTenant: boolean;
  readonly subject: string;
  readonly html: string;
  readonly text: string;
  readonly replyTo?: string;
  readonly category?: string;
  /** Set for marketing mail; adds the headers of RFC 8058. */
  readonly unsubscribeUrl?: string;
}

// Shorter than the table's time limit, so that this file classifies the timeout and not the engine.
const TIMEOUT_MS = 15_000;

// These classes exist at run time, but the SDK's types hide them from ES modules.
const { Client } = sendgridClient as typeof sendgridClient & { Client: new () => typeof sendgridClient };
type MailService = typeof sendgridMail;
const { Mail: Message } = sendgridHelpers.classes;
const { MailService: Service } = sendgridMail as MailService & { MailService: new () => MailService };

interface Connection {
  /** For single mails. */
  readonly service: MailService;
  /** For bulk requests: `service` would copy each of up to 1,000 recipients several times. */
  readonly client: InstanceType<typeof Client>;
}

const MAX_CONNECTIONS = 500;
const connections = new Map<string, Connection>();

function connectionFor({ apiKey, baseUrl }: SendgridAccount): Connection {
  const key = `${baseUrl} ${apiKey}`;
  const known = connections.get(key);
  if (known !== undefined) return known;
  const client = new Client();
  client.setApiKey(apiKey);
  // Must follow setApiKey, which resets the base URL.
  client.setDefaultRequest("baseUrl", `${baseUrl.replace(/\/$/, "")}/`);
  // The SDK passes these to axios; its types do not list them.
  const setDefault = client.setDefaultRequest.bind(client) as (name: string, value: unknown) => void;
  setDefault("httpAgent", new HttpAgent({ keepAlive: true, maxSockets: 200 }));
  setDefault("httpsAgent", new HttpsAgent({ keepAlive: true, maxSockets: 200 }));
  setDefault("maxRedirects", 0);
  // axios's default transform would parse the JSON of a bulk request again to validate it.
  setDefault("transformRequest", (body: unknown) => (typeof body === "string" ? body : JSON.stringify(body)));
  setDefault("timeout", TIMEOUT_MS);
  const service = new Service();
  service.setClient(client);
  service.setTimeout(TIMEOUT_MS);
  // Evicts the oldest; its requests in flight still complete.
  const [oldest] = connections.keys();
  if (connections.size >= MAX_CONNECTIONS && oldest !== undefined) connections.delete(oldest);
  const connection = { service, client };
  connections.set(key, connection);
  return connection;
}

/** Sends one mail. Never throws: every error becomes an outcome, `fail` if it came before the request left. */
export async function sendMail(account: SendgridAccount, mail: Mail, now: () => Date): Promise<Outcome> {
  const watch = watchRequests();
  try {
    const [response] = await watch.run(() => connectionFor(account).service.send(requestOf(mail)));
    return { kind: "completed", result: { sent_at: now(), provider_message_id: messageIdOf(response) } };
  } catch (error) {
    if (!watch.begun) return unsent(error);
    return classify(error, now(), { owner: account.owner, fromTenant: mail.fromTenant });
  }
}

const sentShape = z.object({ "x-message-id": z.string() });

/** The X-Message-Id of a response; null if it is missing. */
export function messageIdOf({ headers }: { readonly headers: unknown }): string | null {
  return sentShape.safeParse(headers).data?.["x-message-id"] ?? null;
}

/** Posts a JSON body to the API through the account's client. Throws the SDK's errors. */
export function request(account: SendgridAccount, url: string, body: string): Promise<{ headers: unknown }> {
  return connectionFor(account)
    .client.request({ method: "POST", url, body, headers: { "content-type": "application/json" } })
    .then(([response]) => response);
}

type MailData = Exclude<Parameters<MailService["send"]>[0], readonly unknown[]>;

/** Uses setters: given plain data, the SDK would copy the whole mail several times. */
function requestOf(mail: Mail): MailData {
  const message = new Message();
  message.addPersonalization({ to: mail.to });
  message.setFrom(mail.from);
  message.setSubject(mail.subject);
  // text/plain must come first: SendGrid rejects the other order.
  message.setContent([
    { type: "text/plain", value: mail.text },
    { type: "text/html", value: mail.html },
  ]);
  message.setCustomArgs({ bo_msg: mail.rowId });
  if (mail.unsubscribeUrl !== undefined) message.setHeaders(unsubscribeHeaders(mail.unsubscribeUrl));
  if (mail.replyTo !== undefined) message.setReplyTo(mail.replyTo);
  if (mail.category !== undefined) message.setCategories([mail.category]);
  // send() accepts a Mail instance; its types only declare plain data.
  return message as unknown as MailData;
}

/** The one-click unsubscribe headers of RFC 8058. */
export function unsubscribeHeaders(url: string): Record<string, string> {
  return { "List-Unsubscribe": `<${url}>`, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" };
}

const answerShape = z.object({
  response: z.object({
    headers: z.looseObject({}).default({}), // an AxiosHeaders object
    body: z.unknown(),
  }),
  code: z.number(),
});
const errorsShape = z.object({
  errors: z.array(z.object({ message: z.string(), field: z.string().nullish() })).min(1),
});

/**
 * Maps an error of the SDK to an outcome, once the request has begun. A response is classified by its status. Without a response
 * it is unknown whether SendGrid accepted the mail, unless the connection was never made; SendGrid
 * has no idempotency key, so the mail must not be sent again. A 5xx is unknown too: SendGrid returns
 * some after it has accepted the mail.
 */
export function classify(
  error: unknown,
  now: Date,
  { owner = "platform", fromTenant = false }: { owner?: AccountOwner; fromTenant?: boolean } = {},
): Outcome {
  const answer = answerShape.safeParse(error);
  if (!answer.success) {
    const reason = `SendGrid did not answer: ${messageOf(error)}`;
    return isUnreached(codeOf(error)) ? { kind: "retry", reason } : { kind: "unconfirmed", reason };
  }
  const { code: status, response } = answer.data;
  const reason = `SendGrid answered ${status}: ${textOf(response.body)}`;
  if (status === 429) return { kind: "defer", reason, at: resetTime(response.headers, now), holdsAccount: true };
  if ((status === 401 || status === 403) && owner === "tenant") {
    return {
      kind: "hold",
      scope: "tenant",
      reason: `${reason} (check the tenant's SendGrid credential and settings.mail_from, then call brainops.resume)`,
    };
  }
  if (status === 403 && fromTenant) {
    return {
      kind: "hold",
      scope: "tenant",
      reason: `${reason} (verify the tenant's settings.mail_from at SendGrid, then call brainops.resume)`,
    };
  }
  if (status === 401 || status === 403) {
    return {
      kind: "hold",
      // A 401 is about the key. A 403 may be about something in the row.
      scope: status === 401 ? "everyone" : "tenant_first",
      reason: `${reason} (check SENDGRID_API_KEY and MAIL_FROM, then call brainops.resume)`,
    };
  }
  return status >= 500 ? { kind: "unconfirmed", reason } : { kind: "fail", reason };
}

/**
 * Indexes of the personalizations that a 400 rejects. Empty if the error is not a 400, names no
 * personalization, or also names a field outside of them.
 */
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

/** X-RateLimit-Reset (unix seconds), limited to 1 second to 1 hour from now; 30 seconds from now if it is missing. */
function resetTime(headers: Readonly<Record<string, unknown>>, now: Date): Date {
  const reset = Number(headers["x-ratelimit-reset"]) * 1000;
  const soonest = now.getTime() + 1000;
  const latest = now.getTime() + 3_600_000;
  return new Date(
    Number.isFinite(reset) && reset > 0 ? Math.min(Math.max(reset, soonest), latest) : now.getTime() + 30_000,
  );
}
