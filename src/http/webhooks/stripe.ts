// POST /webhooks/stripe, and /webhooks/stripe/<token> for tenants' own accounts: verify, write into
// the ledger, answer. What an event means is decided by a job (brainops.apply_stripe_event). Stripe
// tries everything but 2xx again for three days.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type pg from "pg";
import type { Config } from "../../config.ts";
import { BrainOpsError } from "../../errors.ts";
import { findEndpoint, openCredential } from "../../revenue/credentials/store.ts";
import type { Log } from "../../telemetry/log.ts";
import { recordWebhook } from "../../telemetry/metrics.ts";
import { parseEvent } from "./json.ts";
import { isGenuine, isTimely, parseSignature, SIGNATURE_HEADER } from "./stripeSignature.ts";

// An invoice with all its lines is some hundred KB.
const BODY_LIMIT = 1024 * 1024;

export interface StripeWebhookOptions {
  readonly config: Config;
  readonly log: Log;
  readonly pool: pg.Pool;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/** Who is expected to have signed, and whose account it is; tenantId null for the installation's. */
interface Signer {
  readonly secrets: string;
  readonly tenantId: string | null;
}

export function serveStripeWebhook(app: FastifyInstance, options: StripeWebhookOptions): void {
  const { config, log, pool, now } = options;
  const { STRIPE_WEBHOOK_SECRET: commonSecret } = config;
  const installation: Signer | null = commonSecret === undefined ? null : { secrets: commonSecret, tenantId: null };

  const refuse = (reply: FastifyReply, reason: string): FastifyReply => {
    recordWebhook("stripe", "refused", 1);
    log.warn({ reason }, "stripe webhook: refused a request");
    return reply.code(401).send({ error: "This request is not signed by Stripe." });
  };

  // A scope of its own: the raw body is for these routes alone.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

    // Before the body is read: what can't be genuine is not worth its memory.
    scope.addHook("onRequest", async (request, reply) => {
      if (installation === null && endpointOf(request) === undefined) {
        return unable(reply, "STRIPE_WEBHOOK_SECRET is not set");
      }
      const signature = parseSignature(request.headers[SIGNATURE_HEADER]);
      if (signature === null) return refuse(reply, "the signature header is missing, or is none");
      if (!isTimely(signature, now())) return refuse(reply, "the signed time is not near");
    });

    const receive = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
      const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
      const signature = parseSignature(request.headers[SIGNATURE_HEADER]);
      const endpoint = endpointOf(request);
      const signer = endpoint === undefined ? installation : await tenantSigner(pool, config, endpoint);
      if (signer === "sealed") {
        return unable(reply, "BRAINOPS_SECRET_KEY is not set, or not the one the account was sealed with");
      }
      if (signature === null || signer === null || !isGenuine(signer.secrets, signature, body)) {
        return refuse(reply, signer === null ? "nobody's endpoint" : "the signature does not hold");
      }
      const event = parseEvent(body);
      if (event === null) return reply.code(400).send({ error: "The body is no JSON object." });
      const { rows } = await pool.query<{ recorded: number }>(
        "select brainops.record_webhook_events('stripe', $1::jsonb, $2) as recorded",
        [JSON.stringify([event]), signer.tenantId],
      );
      const recorded = rows[0]?.recorded ?? 0;
      recordWebhook("stripe", recorded > 0 ? "new" : "known", 1);
      return { recorded };
    };
    const route = { bodyLimit: BODY_LIMIT, config: { access: "signature" as const } };
    scope.post("/webhooks/stripe", route, receive);
    scope.post("/webhooks/stripe/:endpoint(^[0-9a-f]{64}$)", route, receive);
  });
}

function unable(reply: FastifyReply, reason: string): FastifyReply {
  return reply.code(503).send({ error: `${reason}, so events can't be verified. Set it on the server.` });
}

/**
 * The secrets behind a tenant's endpoint; null for an unknown one, and for an account without a
 * webhook secret. An account that the tenant has switched off still counts: its refunds are refunds.
 */
async function tenantSigner(pool: pg.Pool, config: Config, token: string): Promise<Signer | "sealed" | null> {
  const endpoint = await findEndpoint(pool, "stripe", token);
  if (endpoint === null) return null;
  try {
    const { webhook_secret: secrets } = openCredential("stripe", endpoint, config);
    return secrets === undefined ? null : { secrets, tenantId: endpoint.tenant_id };
  } catch (error) {
    if (error instanceof BrainOpsError) return "sealed";
    throw error;
  }
}

function endpointOf(request: FastifyRequest): string | undefined {
  return (request.params as { readonly endpoint?: string }).endpoint;
}
