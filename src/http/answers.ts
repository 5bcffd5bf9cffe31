// Answers that no route gives: errors, and paths or methods that are not served. They tell the
// caller what to do and nothing about us: no stack, SQL, host or key.
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { isPassing } from "../db/pool.ts";
import { codeOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import type { ServedRoute } from "./access.ts";

/** Seconds after which a caller may try again when Postgres is out of reach. */
export const RETRY_AFTER = "30";

/** What an error is to the caller: a status and a sentence. */
export function outcomeOf(error: unknown): { status: number; sentence: string } {
  // Fastify's own refusals (413, 415, …) and a caller who hung up: about the request alone. Asked
  // first, because a lost caller and a lost Postgres are both ECONNRESET.
  const { statusCode = 500 } = (error ?? {}) as Partial<FastifyError>;
  if (statusCode >= 400 && statusCode < 500 && error instanceof Error) {
    return { status: statusCode, sentence: error.message };
  }
  if (isPassing(error)) {
    return { status: 503, sentence: "This can't be done right now. Try again later." };
  }
  return { status: 500, sentence: "Something went wrong on our side." };
}

/** Writes down what went wrong on our side. Database messages may quote a row, so only their code is kept. */
export function logFailure(log: Log, request: FastifyRequest, error: unknown, status: number): void {
  if (status < 500) return;
  const code = codeOf(error);
  const where = { method: request.method, route: request.routeOptions.url, code };
  if (status === 503) log.warn(where, "Postgres is out of reach; the caller is asked to try again");
  else if (code === null) log.error({ ...where, err: error }, "a request failed");
  else log.error(where, "a request failed");
}

export function answerErrors(app: FastifyInstance, log: Log): void {
  app.setErrorHandler((error, request, reply) => {
    const { status, sentence } = outcomeOf(error);
    logFailure(log, request, error, status);
    if (status === 503) void reply.header("retry-after", RETRY_AFTER);
    return reply.code(status).send({ error: sentence });
  });
}

/** 404, or for a path that is served with other methods 405 with Allow; OPTIONS is answered with Allow alone. */
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
  return new RegExp(`^${url.replaceAll(/:\w+/g, "[^/]+")}$`);
}

/** For what fastify refuses before it looks for a route, such as a path that can't be decoded. */
export function answerBadRequest(_error: FastifyError, _request: FastifyRequest, reply: FastifyReply): void {
  void reply.code(400).send({ error: "The request can't be read." });
}
