// Twilio's Messages API, thin over its SDK: one client for each credential, and what its answers mean.
import twilio from "twilio";
import { z } from "zod";
import { codeOf, messageOf } from "../errors.ts";
import type { Outcome } from "../jobs/outcome.ts";

export interface TwilioAccount {
  readonly accountSid: string;
  readonly authToken: string;
  /** A number in E.164, a short code, or a messaging service (MG…). */
  readonly from: string;
  readonly baseUrl: string;
  /** Whether it is the tenant's own, and not the installation's. */
  readonly isTenants: boolean;
}

export interface TextMessage {
  /** In E.164. */
  readonly to: string;
  readonly from: string;
  readonly body: string;
  readonly statusCallback?: string;
}

/** A refusal, or the lack of an answer. */
export interface TwilioError {
  /** HTTP status; null where no answer came. */
  readonly status: number | null;
  /** Twilio's error code, e.g. 21211. */
  readonly code: number | null;
  /** Node's, e.g. ECONNRESET; null where an answer came. */
  readonly networkCode: string | null;
  readonly retryAfterSeconds: number | null;
  /** What happened, as a sentence. */
  readonly words: string;
}

export type Taken = {
  readonly kind: "taken";
  readonly sid: string;
  /** The number it goes out from; null where a messaging service has still to choose. */
  readonly from: string | null;
  readonly segments: number | null;
};

// Shorter than the table's time limit, so that the outcome is written by the handler itself.
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

/** The SDK's exceptions keep no headers, and Retry-After is one: so the refusal is thrown before them. */
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
  // The one that was used last goes last, and the one that was not used for longest gives way.
  clients.delete(key);
  clients.set(key, client);
  const [oldest] = clients.keys();
  if (clients.size > MAX_CLIENTS && oldest !== undefined) clients.delete(oldest);
  return client;
}

/** Sends one text. Never throws. */
export async function createMessage(
  account: TwilioAccount,
  { from, ...message }: TextMessage,
): Promise<Taken | { readonly kind: "refused"; readonly error: TwilioError }> {
  const sender = from.startsWith("MG") ? { messagingServiceSid: from } : { from };
  try {
    const taken = await clientFor(account).messages.create({ ...message, ...sender });
    // The SDK's type says string, but a proxy that answers for Twilio may say anything.
    if (!/^(?:SM|MM)[0-9a-f]{32}$/i.test(String(taken.sid))) throw new Error("the answer has no MessageSid");
    const segments = Number(taken.numSegments);
    return {
      kind: "taken",
      sid: taken.sid,
      from: taken.from === null || taken.from === "" ? null : taken.from,
      segments: segments > 0 ? segments : null,
    };
  } catch (error) {
    return { kind: "refused", error: errorOf(error) };
  }
}

export interface ListedMessage {
  readonly sid: string;
  readonly body: string;
  /** ISO 8601. */
  readonly created_at: string;
}

const MOST_LISTED = 1000;

/**
 * Every text that somebody sent through the account's API to the number since then. By creation, and not by Twilio's filter
 * DateSent: a text that still waits in Twilio's queue has no such date. Throws where Twilio does not
 * answer, or has more to the number than is read.
 */
export async function listMessages(account: TwilioAccount, to: string, since: Date): Promise<ListedMessage[]> {
  const messages = await clientFor(account).messages.list({ to, pageSize: 200, limit: MOST_LISTED });
  const recent = messages.filter(({ dateCreated, direction }) => dateCreated >= since && direction === "outbound-api");
  if (messages.length >= MOST_LISTED && recent.length >= MOST_LISTED) {
    throw new Error(`Twilio lists more than ${MOST_LISTED} texts to ${to}`);
  }
  return recent.map(({ sid, body, dateCreated }) => ({ sid, body, created_at: dateCreated.toISOString() }));
}

const bodyShape = z.object({ code: z.number().nullish(), message: z.string().nullish(), detail: z.string().nullish() });
const headerShape = z.object({ "retry-after": z.string() });

export function errorOf(error: unknown): TwilioError {
  if (!(error instanceof Refusal)) {
    const words = `Twilio gave no answer: ${messageOf(error)}`;
    return { status: null, code: null, networkCode: codeOf(error), retryAfterSeconds: null, words };
  }
  const body = bodyShape.safeParse(typeof error.body === "string" ? safeJson(error.body) : error.body).data;
  const code = body?.code ?? null;
  const retryAfter = Number(headerShape.safeParse(error.headers).data?.["retry-after"] ?? Number.NaN);
  return {
    status: error.status,
    code,
    networkCode: null,
    retryAfterSeconds: Number.isFinite(retryAfter) ? retryAfter : null,
    words: `Twilio answered ${code ?? error.status}: ${body?.message ?? body?.detail ?? "no reason given"}`,
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
  /** No text can reach the number. */
  recipient: [21211, 21214, 21217, 21614, 30005, 30006],
  /** The person wants none. */
  opted_out: [21610, 30004],
  /** Our number may not send at all. */
  sender: [21212, 21603, 21606, 21659, 21660, 21661, 30032, 30034, 30035],
  /** Not from here to there, or filtered by a carrier. */
  route: [21408, 21608, 21612, 30007],
  /** Nothing of the account goes. */
  account: [20003, 20005, 20006, 30002],
  /** The handset may be on later. */
  unreachable: [30003],
  /** Surely not sent, and may go later. */
  later: [20429, 20503, 21611, 30001],
  /** Twilio does not say whether it was sent. */
  unknown: [20500, 30008, 30500],
} as const satisfies Record<string, readonly number[]>;

/** text: anything else, which is about this text as it stands. */
export type ErrorClass = keyof typeof classes | "text";

const classByCode = new Map<number, ErrorClass>(
  Object.entries(classes).flatMap(([name, codes]) => codes.map((code) => [code, name as ErrorClass] as const)),
);

/** What an error code means (twilio.com/docs/api/errors); the same as brainops_internal.sms_error_class in SQL. */
export function classOf(code: number): ErrorClass {
  return classByCode.get(code) ?? "text";
}

// Nothing of the request has left this machine.
const NOT_SENT = new Set(["ECONNREFUSED", "ENOTFOUND", "EAI_AGAIN", "EHOSTUNREACH", "ENETUNREACH"]);
const QUEUE_FULL_MS = 5 * 60_000;

/**
 * How an error ends the row. Twilio has no idempotency key ("if you get a 500 and retry, customers may
 * receive multiple messages", error 20500), so what leaves the outcome open is unconfirmed.
 * @param senderIsTenants whether the account or the number is the tenant's own
 */
export function outcomeOf(error: TwilioError, now: Date, senderIsTenants: boolean): Outcome {
  const { status, code, networkCode, words: reason } = error;
  if (status === null) {
    return NOT_SENT.has(networkCode ?? "") ? { kind: "retry", reason } : { kind: "unconfirmed", reason };
  }
  if (status === 429 || code === 20429) {
    return { kind: "defer", reason, at: retryTime(error, now), holdsAccount: true };
  }
  const scope = senderIsTenants ? "tenant" : "everyone";
  switch (code === null ? "text" : classOf(code)) {
    case "opted_out":
      return { kind: "skip", reason: `opted out (${reason})` };
    case "recipient":
    case "route":
    case "unreachable":
      return { kind: "fail", reason };
    case "sender":
      return { kind: "hold", scope, reason: `${reason} (check the number it is sent from, then brainops.resume)` };
    case "account":
      return { kind: "hold", scope, reason: `${reason} (check the Twilio account, then brainops.resume)` };
    case "later":
      return code === 21611
        ? { kind: "defer", reason, at: new Date(now.getTime() + QUEUE_FULL_MS) }
        : { kind: "retry", reason };
    case "unknown":
      return { kind: "unconfirmed", reason };
    case "text":
      return byStatus(status, reason, scope);
  }
}

function byStatus(status: number, reason: string, scope: "tenant" | "everyone"): Outcome {
  if (status >= 500) return { kind: "unconfirmed", reason };
  // 404 where the account itself is not found: its SID is wrong.
  if (status === 401 || status === 403 || status === 404) {
    return { kind: "hold", scope, reason: `${reason} (check the Twilio account, then brainops.resume)` };
  }
  return { kind: "fail", reason };
}

/** Retry-After in seconds; without it, ten. Never more than an hour. */
function retryTime({ retryAfterSeconds }: TwilioError, now: Date): Date {
  const seconds = Math.min(Math.max(retryAfterSeconds ?? 10, 1), 3600);
  return new Date(now.getTime() + seconds * 1000);
}
