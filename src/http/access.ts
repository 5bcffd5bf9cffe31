// Who may call a route. Every route declares it (config.access); the server does not start if one
// does not, so an unprotected route can't be served by accident.
import { createHash, timingSafeEqual } from "node:crypto";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type { Config } from "../config.ts";

/**
 * - public: anyone; the route reveals nothing, or its URL holds a secret token
 * - signature: whoever has the signing key; the route verifies the signature itself (webhooks/receive.ts)
 * - metrics-token: whoever sends METRICS_TOKEN as a bearer token
 */
export type Access = "public" | "signature" | "metrics-token";

declare module "fastify" {
  interface FastifyContextConfig {
    access?: Access;
  }
}

export interface ServedRoute {
  readonly method: string;
  readonly url: string;
  readonly access: Access;
}

/** Guards every route registered after this call. Returns the list of them; it grows with each registration. */
export function guardRoutes(app: FastifyInstance, config: Config): readonly ServedRoute[] {
  const served: ServedRoute[] = [];
  app.addHook("onRoute", ({ method, url, config: options }) => {
    const access = options?.access;
    if (access === undefined) throw new Error(`Route ${String(method)} ${url} does not say who may call it`);
    for (const one of [method].flat()) served.push({ method: one, url, access });
  });
  const expected = config.METRICS_TOKEN === undefined ? null : digest(config.METRICS_TOKEN);
  app.addHook("onRequest", async (request, reply) => {
    if (request.routeOptions.config.access === "metrics-token") return requireToken(expected, request, reply);
  });
  return served;
}

async function requireToken(expected: Buffer | null, request: FastifyRequest, reply: FastifyReply): Promise<unknown> {
  if (expected === null) {
    return reply.code(503).send({ error: "METRICS_TOKEN is not set on the server, so metrics are not available." });
  }
  const given = /^bearer +(\S+) *$/i.exec(request.headers.authorization ?? "")?.[1];
  // timingSafeEqual needs equal lengths, and digests have them.
  if (given !== undefined && timingSafeEqual(digest(given), expected)) return;
  return reply
    .code(401)
    .header("www-authenticate", "Bearer")
    .send({ error: "Send the server's METRICS_TOKEN as Authorization: Bearer <token>." });
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
