// The HTTP server: limits, headers, routes. It is stateless: every change of data is one call of a
// function in Postgres, so any number of servers may run.
import type { AddressInfo } from "node:net";
import { fastify, type FastifyInstance } from "fastify";
import type { Config } from "../config.ts";
import { limits } from "../db/limits.ts";
import { createPool } from "../db/pool.ts";
import type { Log } from "../telemetry/log.ts";
import { guardRoutes, type ServedRoute } from "./access.ts";
import { announcePublicUrl } from "./announce.ts";
import { answerBadRequest, answerErrors, answerUnserved } from "./answers.ts";
import { createCloser } from "./close.ts";
import { serveConfirm } from "./confirm.ts";
import { formWebhook } from "./forms.ts";
import { serveHealth } from "./health.ts";
import { createLimits, limitFailures, warnOfProxies } from "./limits.ts";
import { servePreferences } from "./preferences.ts";
import { serveUnsubscribe } from "./unsubscribe.ts";
import { serveWebhook } from "./webhooks/receive.ts";
import { sendgridWebhook } from "./webhooks/sendgrid.ts";
import { stripeWebhook } from "./webhooks/stripe.ts";
import { twilioWebhook } from "./webhooks/twilio.ts";

export interface HttpServerOptions {
  readonly config: Config;
  readonly log: Log;
  /** URL of a login that is a member of brainops_system. */
  readonly connectionString: string;
  /** Health of the worker in the same process, for GET /readyz. */
  readonly workerHealth?: () => { ok: boolean; reason?: string };
  /** The clock that signed times are compared with, in unix milliseconds. @default Date.now */
  readonly now?: () => number;
}

export interface HttpServer {
  /** The address it listens on, without a trailing slash. */
  readonly url: string;
  /** Every route, with who may call it. */
  readonly routes: readonly ServedRoute[];
  /** Lets requests in flight finish (10 s at most), then closes every connection. Idempotent. */
  close(): Promise<void>;
}

/** Listens on config.HOST:config.PORT; port 0 takes a free port. Throws a ConfigError if a key is malformed. */
export async function startHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const { config, log, connectionString, now = Date.now } = options;
  const pool = createPool({
    connectionString,
    applicationName: "brainops http",
    max: 5,
    limits: limits.http,
    // For runAsTenant: the statements of a form's transaction go out in one round trip.
    pipeline: true,
  });
  const probePool = createPool({
    connectionString,
    applicationName: "brainops http",
    max: 2,
    limits: limits.probe,
  });
  try {
    const app = createApp(log, config);
    const close = createCloser(app);
    const routes = guardRoutes(app, config);
    const failures = createLimits(now);
    limitFailures(app, failures);
    warnOfProxies(app, config.TRUSTED_PROXIES, log);
    addHeaders(app, config);
    answerErrors(app, log);
    answerUnserved(app, routes);
    serveHealth(app, { pool, probePool, ...(options.workerHealth && { workerHealth: options.workerHealth }) });
    serveUnsubscribe(app, { log, pool });
    servePreferences(app, { log, pool });
    serveConfirm(app, { log, pool });
    const services = { config, limits: failures, log, pool, now };
    serveWebhook(app, services, sendgridWebhook(config));
    serveWebhook(app, services, twilioWebhook("status", config));
    serveWebhook(app, services, twilioWebhook("inbound", config));
    serveWebhook(app, services, stripeWebhook(config));
    serveWebhook(app, services, formWebhook);
    const announce = announcePublicUrl(pool, config.PUBLIC_URL, log);
    app.addHook("onClose", async () => {
      announce.stop();
      await Promise.all([pool.end(), probePool.end()]);
    });
    await app.listen({ host: config.HOST, port: config.PORT });
    announce.begin();
    return { url: urlOf(app, config.HOST), routes, close };
  } catch (error) {
    await Promise.all([pool, probePool].map((one) => (one.ended ? null : one.end())));
    throw error;
  }
}

function createApp(log: Log, { TRUSTED_PROXIES: proxies }: Config): FastifyInstance {
  const app = fastify({
    // A whole request must arrive within requestTimeout, its headers sooner; silent sockets are closed.
    requestTimeout: 30_000,
    connectionTimeout: 60_000,
    // Longer than the 60 s of common load balancers, so that they close first.
    keepAliveTimeout: 72_000,
    http: { headersTimeout: 10_000, connectionsCheckingInterval: 5000 },
    bodyLimit: 64 * 1024,
    // The client's address is the one that the outermost trusted proxy adds to X-Forwarded-For.
    trustProxy: proxies === 0 ? false : (_address, hop) => hop < proxies,
    frameworkErrors: answerBadRequest,
    // Fastify logs URLs, and those of unsubscribe links are secrets. See onResponse.
    logger: false,
  });
  app.addHook("onResponse", async (request, reply) => {
    const { method, routeOptions } = request;
    log.debug(
      { method, route: routeOptions.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) },
      "served",
    );
  });
  return app;
}

function addHeaders(app: FastifyInstance, config: Config): void {
  const https = config.PUBLIC_URL?.startsWith("https:") ?? false;
  app.addHook("onSend", async (_request, reply) => {
    void reply.headers({
      "x-content-type-options": "nosniff",
      "referrer-policy": "no-referrer",
      "cache-control": "no-store",
      ...(https && { "strict-transport-security": "max-age=31536000" }),
    });
  });
}

function urlOf(app: FastifyInstance, host: string): string {
  const { port } = app.server.address() as AddressInfo;
  const reachable = { "0.0.0.0": "127.0.0.1", "::": "::1" }[host] ?? host;
  return `http://${reachable.includes(":") ? `[${reachable}]` : reachable}:${port}`;
}
