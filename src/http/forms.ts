// POST /forms/<token>: a lead from a tenant's form, signed by the tenant's server. Taken at once and
// not by a job: the sender is told what is wrong with it while a person is there to mend it.
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type pg from "pg";
import type { Config } from "../config.ts";
import { BrainOpsError } from "../errors.ts";
import { findEndpoint, openCredential, type Endpoint } from "../revenue/credentials/store.ts";
import { countryOf } from "../revenue/leads/country.ts";
import { readLead, columnOf } from "../revenue/leads/fields.ts";
import { submitForm } from "../revenue/leads/forms.ts";
import { recordWebhook } from "../telemetry/metrics.ts";
import type { Log } from "../telemetry/log.ts";
import { isGenuine, isTimely, signedHeaders, type SignedHeaders } from "./formSignature.ts";
import { parseEvent } from "./webhooks/json.ts";

export interface FormOptions {
  readonly config: Config;
  readonly log: Log;
  readonly pool: pg.Pool;
  /** Unix milliseconds. */
  readonly now: () => number;
}

export function serveForms(app: FastifyInstance, { config, log, pool, now }: FormOptions): void {
  const refuse = (reply: FastifyReply, reason: string): FastifyReply => {
    recordWebhook("form", "refused", 1);
    log.warn({ reason }, "form: refused a request");
    return reply.code(401).send({ error: "This request is not signed by the form's server." });
  };

  // A scope of its own: the raw body is for this route alone.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

    scope.addHook("onRequest", async (request, reply) => {
      const given = signedHeaders(request.headers);
      if (given === null) return refuse(reply, "a signature header is missing");
      if (!isTimely(given, now())) return refuse(reply, "the signed time is not near");
    });

    scope.post(
      "/forms/:token(^[0-9a-f]{64}$)",
      { config: { access: "signature" } },
      async (request: FastifyRequest, reply: FastifyReply) => {
        const { token } = request.params as { readonly token: string };
        const body = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
        const given = signedHeaders(request.headers);
        const endpoint = await findEndpoint(pool, "form", token);
        if (given === null || endpoint === null || !endpoint.active) return refuse(reply, "nobody's form");
        const secret = secretOf(endpoint, config);
        if (secret === null) {
          return reply.code(503).send({
            error: "BRAINOPS_SECRET_KEY is not set, or not the one the form was made with. Set it on the server.",
          });
        }
        if (!isGenuine(secret, given, body)) return refuse(reply, "the signature does not hold");
        return take(pool, endpoint, given, body, reply);
      },
    );
  });
}

function secretOf(endpoint: Endpoint, config: Config): string | null {
  try {
    return openCredential("form", endpoint, config).secret;
  } catch (error) {
    if (error instanceof BrainOpsError) return null;
    throw error;
  }
}

async function take(
  pool: pg.Pool,
  endpoint: Endpoint,
  { id }: SignedHeaders,
  body: Buffer,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const fields = parseEvent(body);
  if (fields === null) return reply.code(400).send({ error: "The body is no JSON object with the form's fields." });
  const named = Object.entries(fields).map(([name, value]) => [columnOf(name), value] as const);
  const { lead, faults } = readLead(named, await countryOf(pool, endpoint.tenant_id));
  if (lead === null) return reply.code(422).send({ error: "Some fields can't be used.", faults });
  try {
    const submission = { tenantId: endpoint.tenant_id, form: endpoint.name, id, lead, evidence: {} };
    const { leadId, isNew } = await submitForm(pool, submission);
    recordWebhook("form", isNew ? "new" : "known", 1);
    return reply.code(isNew ? 201 : 200).send({ lead_id: leadId, is_new: isNew });
  } catch (error) {
    if (!(error instanceof BrainOpsError)) throw error;
    return reply.code(error.code === "OP009" ? 404 : 422).send({ error: error.message, hint: error.hint });
  }
}
