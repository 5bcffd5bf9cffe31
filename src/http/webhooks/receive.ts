// The one receiver of signed requests: webhooks of providers, and lead forms. Their differences are declared (Webhook,
// TenantWebhook); the order of the checks is the same for all:
//   before the body is read  503 if a variable is not set; 401 if the signature headers can't be genuine
//   over the raw body        401 if the endpoint is unknown or the signature is invalid; 429 if the client has had too
//                            many of those, but never to a request whose signature is valid (see EndpointMemory)
//   after that               400 if the body can't be parsed; then the declaration's `accept`
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import type pg from "pg";
import type { Config } from "../../config.ts";
import { BrainOpsError } from "../../errors.ts";
import type { Credential, CredentialProvider } from "../../revenue/credentials/shapes.ts";
import { findEndpoint, openCredential, type Endpoint } from "../../revenue/credentials/store.ts";
import type { Log } from "../../telemetry/log.ts";
import { recordWebhook } from "../../telemetry/metrics.ts";
import { clientOf } from "../failures.ts";
import { TooManyRequestsError, type Limits } from "../limits.ts";

export interface WebhookServices {
  readonly config: Config;
  readonly limits: Limits;
  readonly log: Log;
  readonly pool: pg.Pool;
  /** Unix milliseconds. */
  readonly now: () => number;
}

export interface SignedRequest<Signed> {
  /** What the signature headers say. */
  readonly signed: Signed;
  /** Path and query as received. */
  readonly url: string;
  readonly body: Buffer;
}

/** Whether the account's key signed this request. */
export type Verifier<Signed> = (request: SignedRequest<Signed>) => boolean;

/** A request whose signature is valid. */
export interface Verified<Signed, Parsed, To extends Endpoint | null> {
  readonly signed: Signed;
  readonly body: Parsed;
  readonly query: unknown;
  /** The tenant's endpoint that it was posted to; null for the platform's. */
  readonly endpoint: To;
}

/** The answer to a verified request, and for the metrics how many of its events were new. */
export interface Receipt {
  readonly status: number;
  /** Sent as JSON if it is an object. */
  readonly body?: unknown;
  /** Content-Type of a text body. */
  readonly type?: string;
  readonly added: number;
  readonly known: number;
}

interface Declaration<P extends CredentialProvider, Signed, Parsed> {
  /** Its name in provider_credentials, in metrics and in the log. */
  readonly provider: P;
  /** Who signs, as named in the 401: "Stripe". */
  readonly signer: string;
  /** Tenants' endpoints are one segment below: <path>/<token>. */
  readonly path: string;
  /** Bytes; a larger body is answered with 413. */
  readonly bodyLimit: number;
  /** What `parse` expects, as named in the 400: "JSON object". */
  readonly bodyFormat: string;
  /** Variables that the verification needs at every endpoint. */
  readonly needs: readonly (keyof Config)[];
  /** Null if a signature header is missing or malformed. */
  readonly readSignature: (headers: FastifyRequest["headers"]) => Signed | null;
  /** Whether the signed time is close enough to now (unix milliseconds). Absent if no time is signed. */
  readonly isTimely?: (signed: Signed, nowMs: number) => boolean;
  /** Null if the tenant's credential has no key for webhooks. */
  readonly tenantVerifier: (credential: Credential<P>) => Verifier<Signed> | null;
  /** Whether an endpoint still works after the tenant has switched its credential off. */
  readonly acceptsInactive: boolean;
  /** The text of the 503 if BRAINOPS_SECRET_KEY does not open the tenant's credential. */
  readonly sealedError: string;
  /** Whether valid requests of one endpoint are limited, too. @default false: providers' events are never refused */
  readonly limitsValid?: boolean;
  /** Null if the body does not have the format. */
  readonly parse: (body: Buffer) => Parsed | null;
}

/** A webhook that only tenants have. */
export interface TenantWebhook<P extends CredentialProvider, Signed, Parsed> extends Declaration<P, Signed, Parsed> {
  readonly accept: (request: Verified<Signed, Parsed, Endpoint>, pool: pg.Pool) => Promise<Receipt>;
}

/** A webhook that the platform has at <path>, and tenants with accounts of their own at <path>/<token>. */
export interface Webhook<P extends CredentialProvider, Signed, Parsed> extends Declaration<P, Signed, Parsed> {
  readonly platform: {
    /** Variables that the verification needs at this endpoint, in addition to those needed at every endpoint. */
    readonly needs: readonly (keyof Config)[];
    /** Null if they are not set. */
    readonly verifier: Verifier<Signed> | null;
  };
  readonly accept: (request: Verified<Signed, Parsed, Endpoint | null>, pool: pg.Pool) => Promise<Receipt>;
}

/** A 401 with its reason for the log, or a 503 with its text for the caller. */
interface Refusal {
  readonly status: 401 | 503;
  readonly reason: string;
}

interface Account<Signed, To extends Endpoint | null> {
  readonly verifier: Verifier<Signed>;
  readonly endpoint: To;
}

/** One route of a webhook. */
interface Route<Signed, Parsed, To extends Endpoint | null> {
  readonly url: string;
  readonly needs: readonly (keyof Config)[];
  /** Whether findAccount runs a query, for the endpoint that the URL names. */
  readonly isTenants: boolean;
  /** Whose signature is expected. */
  readonly findAccount: (request: FastifyRequest) => Promise<Account<Signed, To> | Refusal>;
  readonly accept: (request: Verified<Signed, Parsed, To>, pool: pg.Pool) => Promise<Receipt>;
}

/** The text of the 503 for providers' accounts: see Declaration.sealedError. */
export const SEALED_ACCOUNT =
  "BRAINOPS_SECRET_KEY is not set, or is not the key that the account was encrypted with, so events can't be verified. Set it on the server.";

export function serveWebhook<P extends CredentialProvider, Signed, Parsed>(
  app: FastifyInstance,
  services: WebhookServices,
  webhook: Webhook<P, Signed, Parsed> | TenantWebhook<P, Signed, Parsed>,
): void {
  // A scope of its own: bodies are raw on these routes only.
  app.register(async (scope) => {
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));
    if ("platform" in webhook) {
      const { needs, verifier } = webhook.platform;
      serveRoute(scope, services, webhook, {
        url: webhook.path,
        needs: [...webhook.needs, ...needs],
        isTenants: false,
        findAccount: async () => (verifier === null ? unknownEndpoint : { verifier, endpoint: null }),
        accept: webhook.accept,
      });
    }
    serveRoute(scope, services, webhook, {
      url: `${webhook.path}/:endpoint(^[0-9a-f]{64}$)`,
      needs: webhook.needs,
      isTenants: true,
      findAccount: (request) => findTenantAccount(services, webhook, request),
      accept: webhook.accept,
    });
  });
}

function serveRoute<P extends CredentialProvider, Signed, Parsed, To extends Endpoint | null>(
  scope: FastifyInstance,
  { config, limits, log, pool, now }: WebhookServices,
  webhook: Declaration<P, Signed, Parsed>,
  { url, needs, isTenants, findAccount, accept }: Route<Signed, Parsed, To>,
): void {
  const { provider, bodyLimit } = webhook;
  const memory = new EndpointMemory<Signed>();

  /** Counts as a failure of the client's, unless `take` has counted it before. */
  const refuse = (request: FastifyRequest, reply: FastifyReply, refusal: Refusal, isCounted = false): FastifyReply => {
    const { status, reason } = refusal;
    if (status === 503) return reply.code(503).send({ error: reason });
    recordWebhook(provider, "refused", 1);
    const wait = isCounted ? 0 : limits.signed.take(clientOf(request.ip));
    if (wait > 0) throw new TooManyRequestsError(wait);
    log.warn({ reason }, `${provider} webhook: request refused`);
    return reply.code(401).send({ error: `This request is not signed by ${webhook.signer}.` });
  };

  // Runs before the body is read, so that a request that can't be genuine uses no memory.
  const onRequest = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const unset = needs.filter((name) => config[name] === undefined);
    if (unset.length > 0) return refuse(request, reply, notSet(unset));
    const signed = webhook.readSignature(request.headers);
    if (signed === null) return refuse(request, reply, noSignature);
    if (webhook.isTimely?.(signed, now()) === false) return refuse(request, reply, notTimely);
    return undefined;
  };

  const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const raw = Buffer.isBuffer(request.body) ? request.body : Buffer.alloc(0);
    const signed = webhook.readSignature(request.headers);
    if (signed === null) return refuse(request, reply, noSignature);
    const signedRequest = { signed, url: request.url, body: raw };
    const { endpoint: token = "" } = request.params as { readonly endpoint?: string };

    // Counted before the query, and given back unless the request is refused.
    const client = clientOf(request.ip);
    const wait = isTenants ? limits.signed.take(client) : 0;
    if (wait > 0 && !memory.verifies(token, signedRequest)) throw new TooManyRequestsError(wait);
    const isCounted = isTenants && wait === 0;
    const account = await findAccount(request).catch((error: unknown) => {
      if (isCounted) limits.signed.giveBack(client);
      throw error;
    });
    const refusal = "reason" in account ? account : account.verifier(signedRequest) ? null : invalidSignature;
    if (isCounted && refusal?.status !== 401) limits.signed.giveBack(client);
    if ("reason" in account) return refuse(request, reply, account, isCounted);
    if (refusal !== null) return refuse(request, reply, refusal, isCounted);
    if (isTenants) memory.remember(token, account.verifier);

    if (webhook.limitsValid === true) {
      const pause = limits.submissions.take(token);
      if (pause > 0) throw new TooManyRequestsError(pause);
    }
    const body = webhook.parse(raw);
    if (body === null) return reply.code(400).send({ error: `The body is not a ${webhook.bodyFormat}.` });
    const { endpoint } = account;
    const receipt = await accept({ signed, body, query: request.query, endpoint }, pool);
    recordWebhook(provider, "new", receipt.added);
    recordWebhook(provider, "known", receipt.known);
    if (receipt.type !== undefined) void reply.type(receipt.type);
    return reply.code(receipt.status).send(receipt.body);
  };

  scope.post(url, { bodyLimit, config: { access: "signature" }, onRequest }, handler);
}

/**
 * The keys of endpoints that have had a valid request. Whoever shares an address with someone who guesses (behind a
 * proxy that is not trusted, for example) must not lose events, so a request that one of these keys signed is let
 * through to the real check in spite of the limit, without a query.
 */
class EndpointMemory<Signed> {
  static readonly #MAX = 1000;
  readonly #verifiers = new Map<string, Verifier<Signed>>();

  remember(token: string, verifier: Verifier<Signed>): void {
    this.#verifiers.delete(token);
    this.#verifiers.set(token, verifier);
    const [oldest] = this.#verifiers.keys();
    if (this.#verifiers.size > EndpointMemory.#MAX && oldest !== undefined) this.#verifiers.delete(oldest);
  }

  verifies(token: string, request: SignedRequest<Signed>): boolean {
    return this.#verifiers.get(token)?.(request) ?? false;
  }
}

const noSignature: Refusal = { status: 401, reason: "missing or malformed signature header" };
const notTimely: Refusal = { status: 401, reason: "signed time outside the tolerance" };
const invalidSignature: Refusal = { status: 401, reason: "invalid signature" };
const unknownEndpoint: Refusal = { status: 401, reason: "unknown endpoint token" };
const inactiveEndpoint: Refusal = { status: 401, reason: "endpoint switched off" };
const noWebhookKey: Refusal = { status: 401, reason: "the endpoint's credential has no webhook key" };

function notSet(names: readonly string[]): Refusal {
  const verb = names.length > 1 ? "are" : "is";
  const reason = `${names.join(" and ")} ${verb} not set, so events can't be verified. Set it on the server.`;
  return { status: 503, reason };
}

async function findTenantAccount<P extends CredentialProvider, Signed, Parsed>(
  { config, pool }: WebhookServices,
  webhook: Declaration<P, Signed, Parsed>,
  request: FastifyRequest,
): Promise<Account<Signed, Endpoint> | Refusal> {
  const { endpoint: token } = request.params as { readonly endpoint: string };
  const endpoint = await findEndpoint(pool, webhook.provider, token);
  if (endpoint === null) return unknownEndpoint;
  if (!endpoint.active && !webhook.acceptsInactive) return inactiveEndpoint;
  let credential: Credential<P>;
  try {
    credential = openCredential(webhook.provider, endpoint, config);
  } catch (error) {
    if (!(error instanceof BrainOpsError)) throw error;
    return { status: 503, reason: webhook.sealedError };
  }
  const verifier = webhook.tenantVerifier(credential);
  return verifier === null ? noWebhookKey : { verifier, endpoint };
}
