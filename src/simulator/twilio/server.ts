// The API on plain node:http. The order of the checks is Twilio's: account, rate, contents. Faults apply only after that.
import type { IncomingMessage, ServerResponse } from "node:http";
import { readBody } from "../sendgrid/server.ts";
import { readCreate, refusalOfCreate } from "./create.ts";
import { isAccepted, refusalOf, unauthorized, type Fault, type Faults } from "./faults.ts";
import { pageOf, resourceOf, VERSION } from "./resource.ts";
import type { Account, CreateRequest, Message, Refusal } from "./types.ts";

/** The outcome of a request to send. `faulted` includes faults before and after acceptance. */
export type Outcome = "accepted" | "refused" | "faulted";

export interface ApiContext {
  readonly accounts: ReadonlyMap<string, Account>;
  readonly faults: Faults;
  /** Counts a request. False if it exceeds the limit of this second. */
  takeRate(account: Account): boolean;
  /** Why the account's state does not allow the text; null if it does. */
  refusalOf(account: Account, request: CreateRequest): Refusal | null;
  /** Records the text as sent and returns its initial resource. */
  accept(account: Account, request: CreateRequest): Record<string, unknown>;
  readonly messages: readonly Message[];
  find(account: Account, sid: string): Message | null;
  count(outcome: Outcome | "lists"): void;
}

export async function serveApi(request: IncomingMessage, response: ServerResponse, context: ApiContext): Promise<void> {
  const body = await readBody(request);
  if (body === "aborted") return;
  const url = new URL(request.url ?? "/", "http://127.0.0.1");
  const path = /^\/2010-04-01\/Accounts\/([^/]+)\/Messages(?:\/([^/]+))?\.json$/.exec(url.pathname);
  const account = authenticated(request, context.accounts);
  const [, accountSid, sid] = path ?? [];
  if (account === null) return refuse(response, unauthorized);
  if (accountSid !== account.accountSid) return refuse(response, notFound(url.pathname));
  if (!context.takeRate(account))
    return refuse(response, { status: 429, code: 20429, message: "Too Many Requests" }, 1);

  if (sid !== undefined) {
    const message = request.method === "GET" ? context.find(account, sid) : null;
    return message === null ? refuse(response, notFound(url.pathname)) : answer(response, 200, resourceOf(message));
  }
  if (request.method === "GET") {
    context.count("lists");
    const fault = context.faults.take("list", url.searchParams.get("To"));
    const page = (): void => answer(response, 200, pageOf(account.accountSid, context.messages, url.searchParams));
    return fault === null ? page() : strike(fault, request, response, page);
  }
  if (request.method !== "POST") {
    return refuse(response, { status: 405, code: 20004, message: `Method ${request.method} not allowed` });
  }
  create(request, response, account, new URLSearchParams(body === "too large" ? "" : body.toString("utf8")), context);
}

function create(
  request: IncomingMessage,
  response: ServerResponse,
  account: Account,
  form: URLSearchParams,
  context: ApiContext,
): void {
  const asked = readCreate(form);
  const refusal = refusalOfCreate(asked) ?? context.refusalOf(account, asked);
  if (refusal !== null) {
    context.count("refused");
    return refuse(response, refusal);
  }
  const fault = context.faults.take("create", asked.to);
  const resource = fault === null || isAccepted(fault) ? context.accept(account, asked) : {};
  context.count(fault === null ? "accepted" : "faulted");
  const taken = (): void => answer(response, 201, resource);
  if (fault === null) taken();
  else strike(fault, request, response, taken);
}

/** Applies a fault. `late` sends the response of a request without faults. */
function strike(fault: Fault, request: IncomingMessage, response: ServerResponse, late: () => void): void {
  if (fault.kind === "reset") {
    request.socket.resetAndDestroy();
    return;
  }
  const refusal = refusalOf(fault);
  // unref: a delayed response must not keep the process alive.
  if (refusal === null) setTimeout(late, fault.kind === "slow" ? fault.delayMs : 0).unref();
  else refuse(response, refusal, fault.kind === "rate_limited" ? (fault.retryAfterSeconds ?? 1) : undefined);
}

/** Basic authentication by account SID and token. */
function authenticated(request: IncomingMessage, accounts: ReadonlyMap<string, Account>): Account | null {
  const given = /^Basic (.+)$/.exec(request.headers.authorization ?? "")?.[1];
  if (given === undefined) return null;
  const [sid = "", ...token] = Buffer.from(given, "base64").toString("utf8").split(":");
  const account = accounts.get(sid);
  return account !== undefined && account.authToken === token.join(":") ? account : null;
}

function notFound(path: string): Refusal {
  return {
    status: 404,
    code: 20404,
    message: `The requested resource ${path.replace(`/${VERSION}`, "")} was not found`,
  };
}

function refuse(response: ServerResponse, { status, code, message }: Refusal, retryAfterSeconds?: number): void {
  if (retryAfterSeconds !== undefined) response.setHeader("Retry-After", String(retryAfterSeconds));
  answer(response, status, { code, message, more_info: `https://www.twilio.com/docs/errors/${code}`, status });
}

function answer(response: ServerResponse, status: number, body: object): void {
  if (response.destroyed) return;
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body));
}
