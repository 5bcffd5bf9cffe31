// The v1 API on plain node:http. The order of the checks is Stripe's: key, URL, version, body, idempotency key,
// parameters. Faults apply only after that, then the request is executed.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Account } from "./account.ts";
import { billing } from "./api/billing.ts";
import { catalog } from "./api/catalog.ts";
import { hooks } from "./api/hooks.ts";
import { links } from "./api/links.ts";
import { money } from "./api/money.ts";
import type { Handler, Routes } from "./api/route.ts";
import { invalid, unauthorized, unknownUrl } from "./errors.ts";
import { begin, type Call, refuse, strike, write } from "./execute.ts";
import { expand } from "./expand.ts";
import type { Faults } from "./faults.ts";
import { fingerprint, parseForm } from "./form.ts";
import type { Answer } from "./idempotency.ts";
import { newId } from "./ids.ts";
import type { Outcome } from "./options.ts";
import { apiVersion } from "./types.ts";

const maxBodyBytes = 1_000_000;
const routes: Routes = { ...links, ...catalog, ...money, ...billing, ...hooks };
const patterns = Object.entries(routes).map(([name, handler]) => ({
  pattern: new RegExp(`^${name.replace(":id", "([^/]+)")}$`),
  handler,
}));

export interface ApiContext {
  readonly faults: Faults;
  /** The account of a key; null for an unknown key. */
  account(key: string): Account | null;
  /** Called once per request, with its outcome. */
  count(outcome: Outcome): void;
}

export async function api(request: IncomingMessage, response: ServerResponse, context: ApiContext): Promise<void> {
  const body = await readBody(request);
  if (body === null) return;
  const requestId = newId("request");
  response.setHeader("Request-Id", requestId);
  response.setHeader("Stripe-Version", apiVersion);
  try {
    const account = authenticate(request, context);
    account.world.clock.catchUp();
    const call = { ...understand(request, body), account, requestId };
    if (call.key !== null) response.setHeader("Idempotency-Key", call.key);
    const stored = call.key === null ? null : account.keys.look(call.key, call.endpoint, call.fingerprint, account.now);
    if (stored !== null) {
      response.setHeader("Original-Request", stored.requestId);
      response.setHeader("Idempotent-Replayed", "true");
    }
    // The request, whether it is executed now or was executed before; faults do not change it.
    const perform = stored === null ? begin(call, prepare(call)) : (): Answer => stored;
    const fault = context.faults.take(call.endpoint, account.secretKey);
    if (fault === null) write(response, perform());
    else strike(fault, request, response, call, perform, stored === null);
    context.count(fault !== null ? "faulted" : stored !== null ? "replayed" : "accepted");
  } catch (error) {
    context.count("refused");
    refuse(response, error);
  }
}

function authenticate(request: IncomingMessage, context: ApiContext): Account {
  const { authorization = "" } = request.headers;
  const [scheme = "", token = ""] = authorization.split(" ");
  const key = scheme === "Basic" ? (Buffer.from(token, "base64").toString().split(":")[0] ?? "") : token;
  if (key === "" || !["Bearer", "Basic"].includes(scheme)) throw unauthorized(null);
  const account = context.account(key);
  if (account === null) throw unauthorized(key);
  return account;
}

function understand(request: IncomingMessage, body: string): Omit<Call, "account" | "requestId"> {
  const { method = "GET", headers } = request;
  const { pathname, search } = new URL(request.url ?? "/", "http://127.0.0.1");
  const { handler, id } = match(method, pathname);
  const version = headers["stripe-version"];
  if (version !== undefined && version !== apiVersion) {
    throw invalid(`Invalid Stripe API version: ${String(version)}. This simulator speaks ${apiVersion}.`);
  }
  const form = parseForm(method === "POST" ? body : search.slice(1));
  const media = headers["content-type"] ?? "application/x-www-form-urlencoded";
  if (form === null || (method === "POST" && !media.startsWith("application/x-www-form-urlencoded"))) {
    throw invalid(
      "Invalid request (check that your POST content type is application/x-www-form-urlencoded). If you have any questions, we can help at https://support.stripe.com/.",
    );
  }
  const key = headers["idempotency-key"];
  return {
    endpoint: `${method} ${pathname}`,
    // Only requests that change something store their response.
    key: method === "POST" && typeof key === "string" && key !== "" ? key : null,
    fingerprint: fingerprint(form),
    form,
    handler,
    id,
  };
}

/** Checks the parameters. Not for repeated requests: what was valid then may not be valid now. */
function prepare({ account, handler, form, id }: Call): () => object {
  const execute = handler(account, form, id);
  const paths = Object.values(form["expand"] ?? {}).map(String);
  return paths.length === 0 ? execute : () => expand(account, execute(), paths);
}

function match(method: string, path: string): { handler: Handler; id: string } {
  for (const { pattern, handler } of patterns) {
    const found = pattern.exec(`${method} ${path}`);
    if (found !== null) return { handler, id: found[1] ?? "" };
  }
  throw unknownUrl(method, path);
}

/** Reads the whole body; null if the client disconnected or the body is too large. */
export function readBody(request: IncomingMessage): Promise<string | null> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    let size = 0;
    request.on("data", (chunk: Buffer) => {
      size += chunk.length;
      if (size > maxBodyBytes) request.destroy();
      else chunks.push(chunk);
    });
    request.on("end", () => resolve(Buffer.concat(chunks).toString("utf8")));
    request.on("close", () => resolve(null));
  });
}
