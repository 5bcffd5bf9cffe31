// Executes a valid request: once per idempotency key, and with a fault if one applies.
import type { IncomingMessage, ServerResponse } from "node:http";
import type { Account } from "./account.ts";
import type { Handler } from "./api/route.ts";
import { Refusal } from "./errors.ts";
import { type Fault, refusalOf } from "./faults.ts";
import type { Form } from "./form.ts";
import type { Answer } from "./idempotency.ts";

/** A request that was parsed: its account, what it asks for, and its idempotency key. */
export interface Call {
  account: Account;
  requestId: string;
  /** Method and path. */
  endpoint: string;
  key: string | null;
  fingerprint: string;
  form: Form;
  handler: Handler;
  /** The id in the path; "" if the path has none. */
  id: string;
}

/** Reserves the key, and returns the function that executes the request and stores its response. */
export function begin({ account, key, endpoint, fingerprint, requestId }: Call, execute: () => object): () => Answer {
  if (key !== null) account.keys.begin(key, endpoint, fingerprint, account.now);
  return () => {
    account.request = { id: requestId, idempotency_key: key };
    try {
      const answer = { status: 200, body: structuredClone(execute()) };
      if (key !== null) account.keys.finish(key, { ...answer, requestId });
      return answer;
    } catch (error) {
      if (key !== null) account.keys.release(key);
      throw error;
    } finally {
      account.request = { id: null, idempotency_key: null };
    }
  };
}

/**
 * Applies the fault.
 * @param isNew true: `perform` executes the request; false: it returns the stored response
 */
export function strike(
  fault: Fault,
  request: IncomingMessage,
  response: ServerResponse,
  { account, key, requestId }: Call,
  perform: () => Answer,
  isNew: boolean,
): void {
  const after = "moment" in fault ? fault.moment === "after" : fault.kind === "slow";
  const answer = after ? perform() : null;
  if (fault.kind === "slow") {
    // unref: a delayed response must not keep the process alive. Until the request is executed, its key is in use.
    setTimeout(() => answerLater(response, () => answer ?? perform()), fault.delayMs).unref();
    return;
  }
  const refusal = refusalOf(fault);
  if (key !== null && isNew) {
    const keep = fault.kind === "server_error" && (fault.stored ?? after);
    if (keep && refusal !== null) account.keys.finish(key, { status: refusal.status, body: refusal.body, requestId });
    else if (!after) account.keys.release(key);
  }
  if (refusal === null) request.socket.resetAndDestroy();
  else refuse(response, refusal);
}

function answerLater(response: ServerResponse, perform: () => Answer): void {
  try {
    const answer = perform();
    if (!response.destroyed) write(response, answer);
  } catch (error) {
    refuse(response, error);
  }
}

export function write(response: ServerResponse, { status, body }: Answer): void {
  response.writeHead(status, { "Content-Type": "application/json" }).end(JSON.stringify(body, null, 2));
}

export function refuse(response: ServerResponse, error: unknown): void {
  if (!(error instanceof Refusal)) throw error;
  for (const [name, value] of Object.entries(error.headers)) response.setHeader(name, value);
  // The error of a fault is not the response that is stored.
  response.removeHeader("Idempotent-Replayed");
  response.removeHeader("Original-Request");
  write(response, error);
}
