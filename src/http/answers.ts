// Answers that no route gives itself: for errors, and for paths or methods that are not served. They say what the
// caller can do, and reveal nothing about the server: no stack, SQL, host or key.
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { isTransient } from "../db/pool.ts";
import { codeOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import type { ServedRoute } from "./access.ts";
import { TooManyRequestsError } from "./limits.ts";
import { sendPage, type Page } from "./page.ts";

/** Retry-After in seconds, if Postgres is unreachable. */
const RETRY_AFTER = 30;

interface ErrorAnswer {
  readonly status: number;
  readonly sentence: string;
  /** In seconds; absent if a repetition is of no use, or the time is not known. */
  readonly retryAfter?: number;
}

/** What the caller gets for an error. */
function errorAnswer(error: unknown): ErrorAnswer {
  if (error instanceof TooManyRequestsError) {
    return { status: 429, sentence: error.message, retryAfter: error.retryAfterSeconds };
  }
  // Fastify's own refusals (413, 415, …) and a client that disconnected concern this request only. They come first,
  // because a lost client and a lost Postgres are both ECONNRESET.
  const { statusCode = 500 } = (error ?? {}) as Partial<FastifyError>;
  if (statusCode >= 400 && statusCode < 500 && error instanceof Error) {
    return { status: statusCode, sentence: error.message };
  }
  if (isTransient(error)) {
    return { status: 503, sentence: "This can't be done right now. Try again later.", retryAfter: RETRY_AFTER };
  }
  return { status: 500, sentence: "Something went wrong on our side." };
}

/** Logs a 5xx. A database message may quote a row, so only its code is logged. */
function logFailure(log: Log, request: FastifyRequest, error: unknown, status: number): void {
  if (status < 500) return;
  const code = codeOf(error);
  const where = { method: request.method, route: request.routeOptions.url, code };
  if (status === 503) log.warn(where, "Postgres is unreachable; answered 503");
  else if (code === null) log.error({ ...where, err: error }, "request failed");
  else log.error(where, "request failed");
}

/** Answers errors with JSON. */
export function answerErrors(app: FastifyInstance, log: Log): void {
  app.setErrorHandler((error, request, reply) => {
    const { status, sentence, retryAfter } = errorAnswer(error);
    logFailure(log, request, error, status);
    if (retryAfter !== undefined) void reply.header("retry-after", retryAfter);
    return reply.code(status).send({ error: sentence });
  });
}

/**
 * Answers errors with pages for people: `later` for the server's errors (5xx) and too many requests (429),
 * `notUnderstood` for the client's other errors (4xx).
 */
export function answerErrorsWithPages(
  scope: FastifyInstance,
  log: Log,
  { later, notUnderstood }: { readonly later: Page; readonly notUnderstood: Page },
): void {
  scope.setErrorHandler((error, request, reply) => {
    const { status, retryAfter } = errorAnswer(error);
    logFailure(log, request, error, status);
    const isLater = status >= 500 || status === 429;
    if (isLater) void reply.header("retry-after", retryAfter ?? RETRY_AFTER);
    return sendPage(reply, status, isLater ? later : notUnderstood);
  });
}

/** 404; for a path that is served with other methods, 405 with Allow, and for OPTIONS 204 with Allow. */
export function answerUnserved(app: FastifyInstance, served: readonly ServedRoute[]): void {
  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split("?")[0] ?? "/";
    const methods = served.filter(({ url }) => patternOf(url).test(path)).map(({ method }) => method);
    if (methods.length === 0) return reply.code(404).send({ error: "There is nothing here." });
    void reply.header("allow", [...methods, "OPTIONS"].join(", "));
    return request.method === "OPTIONS"
      ? reply.code(204).send()
      : reply.code(405).send({ error: `Use ${methods.join(" or ")} here.` });
  });
}

function patternOf(url: string): RegExp {
  // A parameter, which may have a pattern of its own: ":token" or ":endpoint(^[0-9a-f]{64}$)".
  const pattern = url.replaceAll(/:\w+(?:\(\^(.*?)\$\))?/g, (_parameter, own: string | undefined) => own ?? "[^/]+");
  return new RegExp(`^${pattern}$`);
}

/** For requests that Fastify refuses before routing, such as a path that can't be decoded. */
export function answerBadRequest(_error: FastifyError, _request: FastifyRequest, reply: FastifyReply): void {
  void reply.code(400).send({ error: "The request can't be read." });
}
