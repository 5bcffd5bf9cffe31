// POST /webhooks/sendgrid, and /webhooks/sendgrid/<token> for tenants' own accounts: verify, write
// into the ledger, answer. What the events mean is decided by a job
// (brainops.process_webhook_events), so that a slow or bad event costs no delivery: SendGrid tries
// everything but 2xx again for 24 hours.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type pg from "pg";
import type { Config } from "../../config.ts";
import { findEndpoint, openCredential } from "../../revenue/credentials/store.ts";
import { recordWebhook } from "../../telemetry/metrics.ts";
import type { Log } from "../../telemetry/log.ts";
import { parseEvents } from "./json.ts";
import { isTimely, SendgridSignature, SIGNATURE_HEADER, TIMESTAMP_HEADER } from "./sendgridSignature.ts";

// SendGrid posts up to 768 KB.
const BODY_LIMIT = 2 * 1024 * 1024;

export interface SendgridWebhookOptions {
  readonly config: Config;
  readonly log: Log;
  readonly pool: pg.Pool;
  /** Unix milliseconds. */
  readonly now: () => number;
}

/** Who is expected to have signed, and whose account it is; tenantId null for the installation's. */
interface Signer {
  readonly signature: SendgridSignature;
  readonly tenantId: string | null;
}

/** Throws a ConfigError where the public key can't be used. */
export function serveSendgridWebhook(app: FastifyInstance, options: SendgridWebhookOptions): void {
  const { config, log, pool, now } = options;
  const publicKey = config.SENDGRID_WEBHOOK_PUBLIC_KEY;
  const installation: Signer | null =
    publicKey === undefined ? null : { signature: new SendgridSignature(publicKey), tenantId: null };

  const refuse = (reply: FastifyReply, reason: string): FastifyReply => {
    recordWebhook("sendgrid", "refused", 1);
    log.warn({ reason }, "sendgrid webhook: refused a request");
    return reply.code(401).send({ error: "This request is not signed by SendGrid." });
  };

  // A scope of its own: the raw body is for these routes alone.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

    // Before the body is read: what can't be genuine is not worth 2 MB of memory.
    scope.addHook("onRequest", async (request, reply) => {
      if (installation === null && endpointOf(request) === undefined) {
        return reply.code(503).send({
          error: "SENDGRID_WEBHOOK_PUBLIC_KEY is not set, so events can't be verified. Set it on the server.",
        });
      }
      const given = headersOf(request);
      if (given === null) return refuse(reply, "a signature header is missing");
      if (!isTimely(given.timestamp, now())) return refuse(reply, "the signed time is not near");
    });

    const receive = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
      const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
      const given = headersOf(request);
      const endpoint = endpointOf(request);
      const signer = endpoint === undefined ? installation : await tenantSigner(pool, config, endpoint);
      if (given === null || signer?.signature.isGenuine(given.timestamp, body, given.signature) !== true) {
        return refuse(reply, signer === null ? "nobody's endpoint" : "the signature does not hold");
      }
      const events = parseEvents(body);
      if (events === null) return reply.code(400).send({ error: "The body is no JSON array of events." });
      const { rows } = await pool.query<{ recorded: number }>(
        "select brainops.record_webhook_events('sendgrid', $1::jsonb, $2) as recorded",
        [JSON.stringify(events), signer.tenantId],
      );
      const recorded = rows[0]?.recorded ?? 0;
      recordWebhook("sendgrid", "new", recorded);
      recordWebhook("sendgrid", "known", events.length - recorded);
      return { recorded };
    };
    const route = { bodyLimit: BODY_LIMIT, config: { access: "signature" as const } };
    scope.post("/webhooks/sendgrid", route, receive);
    scope.post("/webhooks/sendgrid/:endpoint(^[0-9a-f]{64}$)", route, receive);
  });
}

/** The signer behind a tenant's endpoint; null for an unknown token, and for an account without a webhook key. */
async function tenantSigner(pool: pg.Pool, config: Config, token: string): Promise<Signer | null> {
  const endpoint = await findEndpoint(pool, "sendgrid", token);
  if (endpoint === null) return null;
  const key = openCredential("sendgrid", endpoint, config).webhook_public_key;
  return key === undefined ? null : { signature: new SendgridSignature(key), tenantId: endpoint.tenant_id };
}

function endpointOf(request: FastifyRequest): string | undefined {
  return (request.params as { readonly endpoint?: string }).endpoint;
}

function headersOf(request: FastifyRequest): { timestamp: string; signature: string } | null {
  const { [TIMESTAMP_HEADER]: timestamp, [SIGNATURE_HEADER]: signature } = request.headers;
  return typeof timestamp === "string" && typeof signature === "string" ? { timestamp, signature } : null;
}
