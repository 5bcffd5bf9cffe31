// POST /v3/mail/send on plain node:http. The order of the checks is SendGrid's: method, key, media type, size, JSON,
// contents. Faults apply only after that.
import { isUtf8 } from "node:buffer";
import type { IncomingMessage, ServerResponse } from "node:http";
import { type Fault, type Faults, refusal, type Refusal, refusalOf } from "./faults.ts";
import { messageId } from "./random.ts";
import type { RateLimit } from "./rate-limit.ts";
import type { MailSend } from "./types.ts";
import { checkMailSend } from "./validate.ts";

/** "The total size of your email, including attachments, must be less than 30MB": read strictly as 30,000,000 bytes. */
const maxBodyBytes = 30_000_000;

/** The outcome of a request. `faulted` includes faults before and after acceptance. */
export type Outcome = "accepted" | "refused" | "faulted" | "sandboxed";

export interface MailSendContext {
  readonly apiKeys: ReadonlySet<string>;
  readonly faults: Faults;
  readonly rateLimit: RateLimit;
  readonly now: () => number;
  /** Records the mail as sent. */
  accept(mail: MailSend, id: string): void;
  /** Called once per request, with its outcome. */
  count(outcome: Outcome): void;
}

export async function mailSend(
  request: IncomingMessage,
  response: ServerResponse,
  context: MailSendContext,
): Promise<void> {
  const body = await readBody(request);
  if (body === "aborted") return;
  const overLimit = !context.rateLimit.take(response);
  const checked = overLimit ? refusal(429, "too many requests") : check(request, body, context);
  if ("status" in checked) {
    context.count("refused");
    return refuse(response, checked);
  }
  if (checked.mail_settings?.sandbox_mode?.enable === true) {
    // Sandbox mode: 200 for a valid request; nothing is sent, so nothing is recorded and no fault applies.
    context.count("sandboxed");
    response.writeHead(200).end();
    return;
  }
  const fault = context.faults.take(checked);
  if (fault === null) return succeed(response, checked, context);
  strike(fault, request, response, checked, context);
}

function check(request: IncomingMessage, body: Buffer | "too large", context: MailSendContext): MailSend | Refusal {
  if (request.method !== "POST") return refusal(405, "POST method allowed only");
  const { authorization } = request.headers;
  if (authorization === undefined) return refusal(401, "authorization required");
  if (!authorization.startsWith("Bearer ") || !context.apiKeys.has(authorization.slice(7))) {
    return refusal(401, "The provided authorization grant is invalid, expired, or revoked");
  }
  if (!/^application\/json\b/i.test(request.headers["content-type"] ?? "")) {
    return refusal(415, "Content-Type should be application/json");
  }
  if (body === "too large") return refusal(413, "content too large");
  if (!isUtf8(body)) return refusal(400, "Invalid UTF8 in request.");
  const parsed = parse(body);
  if (parsed === undefined) return refusal(400, "Bad Request");
  const { mail, errors } = checkMailSend(parsed, Math.floor(context.now() / 1000));
  return mail ?? { status: 400, errors };
}

function succeed(response: ServerResponse, mail: MailSend, context: MailSendContext): void {
  const id = messageId();
  context.accept(mail, id);
  context.count("accepted");
  answerAccepted(response, id);
}

function strike(
  fault: Fault,
  request: IncomingMessage,
  response: ServerResponse,
  mail: MailSend,
  context: MailSendContext,
): void {
  const id = messageId();
  const accepted = fault.kind === "slow" || ("moment" in fault && fault.moment === "after");
  if (accepted) context.accept(mail, id);
  context.count("faulted");
  if (fault.kind === "reset") {
    request.socket.resetAndDestroy();
    return;
  }
  if (fault.kind === "slow") {
    // unref: a delayed response must not keep the process alive.
    setTimeout(answerAccepted, fault.delayMs, response, id).unref();
    return;
  }
  if (fault.kind === "rate_limited") context.rateLimit.announceReset(response, fault.resetSeconds ?? 1);
  refuse(response, refusalOf(fault) ?? refusal(500, "internal server error"));
}

/** 202 without a body. */
function answerAccepted(response: ServerResponse, id: string): void {
  if (!response.destroyed) response.writeHead(202, { "X-Message-Id": id, "Content-Length": 0 }).end();
}

export function refuse(response: ServerResponse, { status, errors }: Refusal): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify({ errors }));
}

/** Reads a body to its end even if it is too large, so that the client gets the response and not a broken pipe. */
export function readBody(request: IncomingMessage): Promise<Buffer | "too large" | "aborted"> {
  return new Promise((resolve) => {
    let chunks: Buffer[] = [];
    let size = 0;
    request.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size < maxBodyBytes) chunks.push(chunk);
      else chunks = [];
    });
    request.on("end", () => resolve(size < maxBodyBytes ? Buffer.concat(chunks) : "too large"));
    request.on("close", () => resolve("aborted"));
  });
}

export function parse(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString("utf8")) as unknown;
  } catch {
    return undefined;
  }
}
