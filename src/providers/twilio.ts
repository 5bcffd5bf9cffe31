// Twilio's Messages API, a thin layer over its SDK: one client per credential, and the mapping of errors to outcomes.
import twilio from "twilio";
import { z } from "zod";
import { codeOf, messageOf } from "../errors.ts";
import { unsent, type HoldScope, type Outcome } from "../jobs/outcome.ts";
import { watchRequests } from "../jobs/requests.ts";
import { withoutSecrets } from "../secrets.ts";
import { isUnreached, type AccountOwner } from "./account.ts";

export interface TwilioAccount {
  readonly accountSid: string;
  readonly authToken: string;
  /** A number in E.164, a short code, or a messaging service (MG…). */
  readonly from: string;
  readonly baseUrl: string;
  readonly owner: AccountOwner;
}

export interface TextMessage {
  /** In E.164. */
  readonly to: string;
  readonly from: string;
  readonly body: string;
  readonly statusCallback?: string;
}

/** An error response, or no response. */
export interface TwilioError {
  /** HTTP status; null without a response. */
  readonly status: number | null;
  /** Twilio's error code, e.g. 21211; null if the response has no code. */
  readonly code: number | null;
  /** Node's error code, e.g. ECONNRESET; null with a response, or for an error without a code. */
  readonly networkCode: string | null;
  /** The header Retry-After; null if it is missing or not a number. */
  readonly retryAfterSeconds: number | null;
  readonly message: string;
}

export type Accepted = {
  readonly kind: "accepted";
  readonly sid: string;
  /** The number the text is sent from; null while a messaging service has not chosen one. */
  readonly from: string | null;
  /** Null if Twilio has not counted them yet. */
  readonly segments: number | null;
};

// Shorter than the table's time limit, so that this file classifies the timeout and not the engine.
const TIMEOUT_MS = 15_000;
const MAX_CLIENTS = 500;

class Refusal extends Error {
  readonly status: number;
  readonly body: unknown;
  readonly headers: unknown;

  constructor(status: number, body: unknown, headers: unknown) {
    super(`Twilio answered ${status}`);
    this.status = status;
    this.body = body;
    this.headers = headers;
  }
}

/** Throws a Refusal before the SDK throws its own exception, which drops the headers and so Retry-After. */
function httpClient(): RequestClient {
  const client = new twilio.RequestClient({ timeout: TIMEOUT_MS, autoRetry: false, maxSockets: 50 });
  const request = client.request.bind(client);
  client.request = async (options) => {
    const response = await request(options);
    if (response.statusCode >= 400) throw new Refusal(response.statusCode, response.body, response.headers);
    return response;
  };
  return client;
}

type RequestClient = InstanceType<typeof twilio.RequestClient>;

const clients = new Map<string, twilio.Twilio>();

function clientFor({ accountSid, authToken, baseUrl }: TwilioAccount): twilio.Twilio {
  const key = JSON.stringify([accountSid, authToken, baseUrl]);
  let client = clients.get(key);
  if (client === undefined) {
    client = twilio(accountSid, authToken, { httpClient: httpClient() });
    client.api.baseUrl = baseUrl.replace(/\/$/, "");
  }
  // Least recently used first: re-inserting moves this client to the end, and the first is evicted.
  clients.delete(key);
  clients.set(key, client);
  const [oldest] = clients.keys();
  if (clients.size > MAX_CLIENTS && oldest !== undefined) clients.delete(oldest);
  return client;
}

export type Refused = { readonly kind: "refused"; readonly error: TwilioError };

/** Sends one text. Never throws. An error that came before the request left is the row's outcome, `fail`. */
export async function createMessage(
  account: TwilioAccount,
  { from, ...message }: TextMessage,
): Promise<Accepted | Refused | Outcome> {
  const watch = watchRequests();
  const origin = from.startsWith("MG") ? { messagingServiceSid: from } : { from };
  try {
    const created = await watch.run(() => clientFor(account).messages.create({ ...message, ...origin }));
    // The SDK declares a string, but a proxy in front of Twilio may return anything.
    if (!/^(?:SM|MM)[0-9a-f]{32}$/i.test(String(created.sid))) throw new Error("the response has no MessageSid");
    const segments = Number(created.numSegments);
    return {
      kind: "accepted",
      sid: created.sid,
      from: created.from === null || created.from === "" ? null : created.from,
      segments: segments > 0 ? segments : null,
    };
  } catch (error) {
    return watch.begun ? { kind: "refused", error: errorOf(error) } : unsent(error);
  }
}

export interface ListedMessage {
  readonly sid: string;
  readonly body: string;
  /** ISO 8601. */
  readonly created_at: string;
}

const MAX_LISTED = 1000;

/**
 * All texts to the number that were created through the account's API at or after `since`. Filters by
 * creation and not by Twilio's DateSent, which a text still queued at Twilio does not have. Throws if
 * Twilio does not answer, or if there are MAX_LISTED or more such texts.
 */
export async function listMessages(account: TwilioAccount, to: string, since: Date): Promise<ListedMessage[]> {
  const messages = await clientFor(account).messages.list({ to, pageSize: 200, limit: MAX_LISTED });
  const recent = messages.filter(({ dateCreated, direction }) => dateCreated >= since && direction === "outbound-api");
  if (messages.length >= MAX_LISTED && recent.length >= MAX_LISTED) {
    throw new Error(`Twilio lists more than ${MAX_LISTED} texts to ${to}`);
  }
  return recent.map(({ sid, body, dateCreated }) => ({ sid, body, created_at: dateCreated.toISOString() }));
}

const bodyShape = z.object({ code: z.number().nullish(), message: z.string().nullish(), detail: z.string().nullish() });
const headerShape = z.object({ "retry-after": z.string() });

export function errorOf(error: unknown): TwilioError {
  if (!(error instanceof Refusal)) {
    const message = `Twilio did not answer: ${messageOf(error)}`;
    return { status: null, code: null, networkCode: codeOf(error), retryAfterSeconds: null, message };
  }
  const body = bodyShape.safeParse(typeof error.body === "string" ? safeJson(error.body) : error.body).data;
  const code = body?.code ?? null;
  const retryAfter = Number(headerShape.safeParse(error.headers).data?.["retry-after"] ?? Number.NaN);
  return {
    status: error.status,
    code,
    networkCode: null,
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : null,
    // Also recorded with the refusal, besides the row's last_error.
    message: withoutSecrets(
      `Twilio answered ${code ?? error.status}: ${body?.message ?? body?.detail ?? "no reason given"}`,
    ),
  };
}

function safeJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

const classes = {
  /** The number cannot receive texts. */
  recipient: [21211, 21214, 21217, 21614, 30005, 30006],
  /** The recipient has opted out or is blocked. */
  opted_out: [21610, 30004],
  /** The From number may not send texts. */
  sender: [21212, 21603, 21606, 21659, 21660, 21661, 30032, 30034, 30035],
  /** Not permitted between these two numbers, or filtered by a carrier. */
  route: [21408, 21608, 21612, 30007],
  /** The account cannot send: wrong credential, suspended, closed. */
  account: [20003, 20005, 20006, 30002],
  /** The handset is off or unreachable. */
  unreachable: [30003],
  /** Not sent; a later attempt may succeed. */
  later: [20429, 20503, 21611, 30001],
  /** Unknown whether it was sent. */
  unknown: [20500, 30008, 30500],
} as const satisfies Record<string, readonly number[]>;

/** "text" is any other code: the text itself was rejected. */
export type ErrorClass = keyof typeof classes | "text";

const classByCode = new Map<number, ErrorClass>(
  Object.entries(classes).flatMap(([name, codes]) => codes.map((code) => [code, name as ErrorClass] as const)),
);

/** The class of an error code (twilio.com/docs/api/errors). Must equal brainops_internal.sms_error_class in SQL. */
export function classOf(code: number): ErrorClass {
  return classByCode.get(code) ?? "text";
}

const ACCOUNT_LIMITS = new Set([20429, 63038]);
const QUEUE_FULL_MS = 5 * 60_000;

/**
 * The outcome of a row for an error. Twilio has no idempotency key ("if you get a 500 and retry,
 * customers may receive multiple messages", error 20500), so after an error that does not show whether the text was
 * sent, the row is unconfirmed.
 * @param owner "tenant" if the account or the From number is the tenant's; a pause then holds this tenant only
 */
export function outcomeOf(error: TwilioError, now: Date, owner: AccountOwner): Outcome {
  const { status, code, networkCode, message: reason } = error;
  if (status === null) {
    return isUnreached(networkCode) ? { kind: "retry", reason } : { kind: "unconfirmed", reason };
  }
  if (status === 429 || code === 20429) {
    // 20429 and 63038 are limits of the account. Another code with this status may be about the two numbers.
    const isAccounts = code === null || ACCOUNT_LIMITS.has(code);
    return { kind: "defer", reason, at: retryTime(error, now), ...(isAccounts ? { holdsAccount: true } : {}) };
  }
  const scope = owner === "tenant" ? "tenant" : "everyone";
  // 21606 and others depend on the recipient's number, too.
  const scopeOfText = owner === "tenant" ? "tenant" : "tenant_first";
  switch (code === null ? "text" : classOf(code)) {
    case "opted_out":
      return { kind: "skip", reason: `opted out (${reason})` };
    case "recipient":
    case "route":
    case "unreachable":
      return { kind: "fail", reason };
    case "sender":
      return {
        kind: "hold",
        scope: scopeOfText,
        reason: `${reason} (check the From number, then call brainops.resume)`,
      };
    case "account":
      return { kind: "hold", scope, reason: `${reason} (check the Twilio account, then call brainops.resume)` };
    case "later":
      return code === 21611
        ? { kind: "defer", reason, at: new Date(now.getTime() + QUEUE_FULL_MS) }
        : { kind: "retry", reason };
    case "unknown":
      return { kind: "unconfirmed", reason };
    case "text":
      return byStatus(status, reason, status === 401 ? scope : scopeOfText);
  }
}

function byStatus(status: number, reason: string, scope: HoldScope): Outcome {
  if (status >= 500) return { kind: "unconfirmed", reason };
  // 404 means that the account was not found: the SID is wrong.
  if (status === 401 || status === 403 || status === 404) {
    return { kind: "hold", scope, reason: `${reason} (check the Twilio account, then call brainops.resume)` };
  }
  return { kind: "fail", reason };
}

/** The time that Retry-After names, limited to 1 second to 1 hour from now; 10 seconds from now if it is missing. */
function retryTime({ retryAfterSeconds }: TwilioError, now: Date): Date {
  const seconds = Math.min(Math.max(retryAfterSeconds ?? 10, 1), 3600);
  return new Date(now.getTime() + seconds * 1000);
}
