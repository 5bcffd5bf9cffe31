// POST /webhooks/sendgrid: verify, write into the ledger, answer. What the events mean is decided
// by a job (brainops.process_webhook_events), so that a slow or bad event costs no delivery:
// SendGrid tries everything but 2xx again for 24 hours.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type pg from "pg";
import type { Config } from "../../config.ts";
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
}

/** Throws a ConfigError where the public key can't be used. */
export function serveSendgridWebhook(app: FastifyInstance, { config, log, pool }: SendgridWebhookOptions): void {
  const publicKey = config.SENDGRID_WEBHOOK_PUBLIC_KEY;
  const signature = publicKey === undefined ? null : new SendgridSignature(publicKey);

  const refuse = (reply: FastifyReply, reason: string): FastifyReply => {
    recordWebhook("sendgrid", "refused", 1);
    log.warn({ reason }, "sendgrid webhook: refused a request");
    return reply.code(401).send({ error: "This request is not signed by SendGrid." });
  };

  // A scope of its own: the raw body is for this route alone.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

    // Before the body is read: what can't be genuine is not worth 2 MB of memory.
    scope.addHook("onRequest", async (request, reply) => {
      if (signature === null) {
        return reply.code(503).send({
          error: "SENDGRID_WEBHOOK_PUBLIC_KEY is not set, so events can't be verified. Set it on the server.",
        });
      }
      const given = headersOf(request);
      if (given === null) return refuse(reply, "a signature header is missing");
      if (!isTimely(given.timestamp, Date.now())) return refuse(reply, "the signed time is not near");
    });

    scope.post(
      "/webhooks/sendgrid",
      { bodyLimit: BODY_LIMIT, config: { access: "signature" } },
      async (request, reply) => {
        const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
        const given = headersOf(request);
        if (given === null || signature?.isGenuine(given.timestamp, body, given.signature) !== true) {
          return refuse(reply, "the signature does not hold");
        }
        const events = parseEvents(body);
        if (events === null) return reply.code(400).send({ error: "The body is no JSON array of events." });
        const { rows } = await pool.query<{ recorded: number }>(
          "select brainops.record_webhook_events('sendgrid', $1::jsonb) as recorded",
          [JSON.stringify(events)],
        );
        const recorded = rows[0]?.recorded ?? 0;
        recordWebhook("sendgrid", "new", recorded);
        recordWebhook("sendgrid", "known", events.length - recorded);
        return { recorded };
      },
    );
  });
}

function headersOf(request: FastifyRequest): { timestamp: string; signature: string } | null {
  const { [TIMESTAMP_HEADER]: timestamp, [SIGNATURE_HEADER]: signature } = request.headers;
  return typeof timestamp === "string" && typeof signature === "string" ? { timestamp, signature } : null;
}
