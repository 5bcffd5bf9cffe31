// The limits of the public routes, and their answer 429. See failures.ts for what is counted.
import type { FastifyInstance, FastifyRequest } from "fastify";
import type { Log } from "../telemetry/log.ts";
import { clientOf, FailureLimit } from "./failures.ts";

// A query takes about a millisecond, so this load is small; no person or provider fails that often.
const FAILURES = { burst: 200, perSecond: 2 };
// A form's own server sends what is valid; the limit keeps one tenant's form from using up the server.
const SUBMISSIONS = { burst: 400, perSecond: 20 };

export interface Limits {
  /** Links of mails, by client: unknown tokens. */
  readonly links: FailureLimit;
  /** Signed routes, by client: unknown endpoints and invalid signatures. */
  readonly signed: FailureLimit;
  /** Valid submissions, by form. */
  readonly submissions: FailureLimit;
}

declare module "fastify" {
  interface FastifyContextConfig {
    /** Its 404s are limited by client. */
    limitsFailures?: boolean;
  }
}

/** The text of the error becomes the answer; see answers.ts. */
export class TooManyRequestsError extends Error {
  readonly statusCode = 429;

  readonly retryAfterSeconds: number;

  constructor(retryAfterSeconds: number) {
    super(`Too many requests. Try again in ${retryAfterSeconds} s.`);
    this.retryAfterSeconds = retryAfterSeconds;
  }
}

export function createLimits(now: () => number): Limits {
  return {
    links: new FailureLimit({ ...FAILURES, now }),
    signed: new FailureLimit({ ...FAILURES, now }),
    submissions: new FailureLimit({ ...SUBMISSIONS, now }),
  };
}

/** Limits routes with config.limitsFailures that are registered after this call: before any query, 429 with Retry-After. */
export function limitFailures(app: FastifyInstance, { links }: Limits): void {
  app.addHook("onRequest", async (request) => {
    if (request.routeOptions.config.limitsFailures !== true) return;
    const wait = links.take(clientOf(request.ip));
    if (wait > 0) throw new TooManyRequestsError(wait);
  });
  // Not called if the client left before the answer: that counts as a failure, too.
  app.addHook("onResponse", async (request, reply) => {
    if (request.routeOptions.config.limitsFailures !== true) return;
    if (reply.statusCode !== 404 && reply.statusCode !== 429) links.giveBack(clientOf(request.ip));
  });
}

/** Warns once if requests come through a proxy that TRUSTED_PROXIES does not count: all of them have one address. */
export function warnOfProxies(app: FastifyInstance, trustedProxies: number, log: Log): void {
  if (trustedProxies > 0) return;
  let warned = false;
  app.addHook("onRequest", async (request: FastifyRequest) => {
    if (warned || request.headers["x-forwarded-for"] === undefined) return;
    warned = true;
    log.warn(
      "a request has the header X-Forwarded-For: behind a proxy, set TRUSTED_PROXIES, or the limits treat everybody as one client",
    );
  });
}
