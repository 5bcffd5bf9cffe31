// POST /webhooks/twilio/status and /webhooks/twilio/inbound, each also with /<token> for tenants' own
// accounts: verify, write into the ledger, answer. What an event means is decided by a job
// (brainops.apply_twilio_event). Twilio does not try a callback again by itself, so what it is
// answered is never an error of ours as long as the ledger can be written.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type pg from "pg";
import type { Config } from "../../config.ts";
import { BrainOpsError } from "../../errors.ts";
import { findEndpoint, openCredential } from "../../revenue/credentials/store.ts";
import type { Log } from "../../telemetry/log.ts";
import { recordWebhook } from "../../telemetry/metrics.ts";
import { cleanText } from "../../text.ts";
import { isGenuine, parseParameters, SIGNATURE_HEADER, type Parameters } from "./twilioSignature.ts";

// A text has at most 1600 characters; what else Twilio sends is short.
const BODY_LIMIT = 64 * 1024;
/** No answer to the person: what is answered, is a row of ai_sms_queue. */
const NO_REPLY = '<?xml version="1.0" encoding="UTF-8"?>\n<Response/>\n';

export interface TwilioWebhookOptions {
  readonly config: Config;
  readonly log: Log;
  readonly pool: pg.Pool;
}

type Kind = "status" | "inbound";

/** Who is expected to have signed, and whose account it is; tenantId null for the installation's. */
interface Signer {
  readonly authToken: string;
  readonly tenantId: string | null;
}

export function serveTwilioWebhooks(app: FastifyInstance, { config, log, pool }: TwilioWebhookOptions): void {
  const { TWILIO_AUTH_TOKEN: commonToken, PUBLIC_URL: publicUrl } = config;
  const installation: Signer | null = commonToken === undefined ? null : { authToken: commonToken, tenantId: null };
  // Not from the request's own Host: that is what a proxy, or a forger, makes of it.
  const origin = publicUrl === undefined ? null : new URL(publicUrl).origin;

  const refuse = (reply: FastifyReply, reason: string): FastifyReply => {
    recordWebhook("twilio", "refused", 1);
    log.warn({ reason }, "twilio webhook: refused a request");
    return reply.code(401).send({ error: "This request is not signed by Twilio." });
  };

  // A scope of its own: the raw body is for these routes alone.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

    scope.addHook("onRequest", async (request, reply) => {
      const missing = [
        ...(origin === null ? ["PUBLIC_URL"] : []),
        ...(installation === null && endpointOf(request) === undefined ? ["TWILIO_AUTH_TOKEN"] : []),
      ];
      if (missing.length > 0)
        return unable(reply, `${missing.join(" and ")} ${missing.length > 1 ? "are" : "is"} not set`);
      if (signatureOf(request) === null) return refuse(reply, "the signature header is missing");
    });

    for (const kind of ["status", "inbound"] as const) {
      const receive = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
        const parameters = parseParameters(Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0));
        const endpoint = endpointOf(request);
        const signer = endpoint === undefined ? installation : await tenantSigner(pool, config, endpoint);
        if (signer === "sealed")
          return unable(reply, "BRAINOPS_SECRET_KEY is not set, or not the one the account was sealed with");
        const given = signatureOf(request) ?? "";
        if (signer === null || !isGenuine(signer.authToken, `${origin}${request.url}`, parameters, given)) {
          return refuse(reply, signer === null ? "nobody's endpoint" : "the signature does not hold");
        }
        const { rows } = await pool.query<{ recorded: number }>(
          "select brainops.record_twilio_event($1::jsonb, $2) as recorded",
          [JSON.stringify(eventOf(kind, request, parameters)), signer.tenantId],
        );
        const isNew = (rows[0]?.recorded ?? 0) > 0;
        recordWebhook("twilio", isNew ? "new" : "known", 1);
        if (kind === "status") return reply.code(204).send();
        return reply.type("text/xml; charset=utf-8").send(NO_REPLY);
      };
      const route = { bodyLimit: BODY_LIMIT, config: { access: "signature" as const } };
      scope.post(`/webhooks/twilio/${kind}`, route, receive);
      scope.post(`/webhooks/twilio/${kind}/:endpoint(^[0-9a-f]{64}$)`, route, receive);
    }
  });
}

function unable(reply: FastifyReply, reason: string): FastifyReply {
  return reply.code(503).send({ error: `${reason}, so events can't be verified. Set it on the server.` });
}

/**
 * The token behind a tenant's endpoint; null for an unknown one. An account that the tenant has
 * switched off still counts: a STOP to it is a STOP.
 */
async function tenantSigner(pool: pg.Pool, config: Config, token: string): Promise<Signer | "sealed" | null> {
  const endpoint = await findEndpoint(pool, "twilio", token);
  if (endpoint === null) return null;
  try {
    return { authToken: openCredential("twilio", endpoint, config).auth_token, tenantId: endpoint.tenant_id };
  } catch (error) {
    if (error instanceof BrainOpsError) return "sealed";
    throw error;
  }
}

/** Twilio's parameters as they came, and beside them ours, whose names Twilio's never have. */
function eventOf(kind: Kind, request: FastifyRequest, parameters: Parameters): object {
  const theirs = [...parameters].map(([name, values]) => {
    const clean = values.map(cleanText);
    return [cleanText(name), clean.length === 1 ? clean[0] : clean] as const;
  });
  const sid = lastOf(parameters, "MessageSid") ?? lastOf(parameters, "SmsSid");
  const status = lastOf(parameters, "MessageStatus") ?? lastOf(parameters, "SmsStatus") ?? "";
  const { row } = request.query as { readonly row?: unknown };
  return {
    ...Object.fromEntries(theirs),
    kind,
    // Without a MessageSid the ledger goes by the contents.
    event_id: sid === undefined ? null : kind === "status" ? `${sid}:${status}` : sid,
    row: kind === "status" && typeof row === "string" ? cleanText(row) : null,
  };
}

function lastOf(parameters: Parameters, name: string): string | undefined {
  const value = parameters.get(name)?.at(-1);
  return value === undefined ? undefined : cleanText(value);
}

function endpointOf(request: FastifyRequest): string | undefined {
  return (request.params as { readonly endpoint?: string }).endpoint;
}

function signatureOf(request: FastifyRequest): string | null {
  const given = request.headers[SIGNATURE_HEADER];
  return typeof given === "string" && given !== "" ? given : null;
}
