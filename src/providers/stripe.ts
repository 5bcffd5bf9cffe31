// Stripe, a thin layer over its SDK: one client per key, payment links, and the mapping of errors to outcomes.
import { Stripe } from "stripe";
import { messageOf } from "../errors.ts";
import { unsent, type Outcome } from "../jobs/outcome.ts";
import { watchRequests } from "../jobs/requests.ts";
import type { AccountOwner } from "./account.ts";

export interface StripeAccount {
  readonly secretKey: string;
  readonly baseUrl: string;
  readonly owner: AccountOwner;
}

export interface PaymentLinkOrder {
  readonly tenantId: string;
  readonly requestId: string;
  /** Number of the request's link; a request may get another link after this one. */
  readonly generation: number;
  /** Product name shown to the payer. */
  readonly name: string;
  /** In the currency's smallest unit as Stripe defines it. */
  readonly amountMinor: number;
  readonly currency: string;
  readonly interval: "one_time" | "month" | "year";
  /** Page the payer is redirected to after the payment; null for Stripe's confirmation page. */
  readonly successUrl: string | null;
}

export interface PaymentLink {
  readonly id: string;
  readonly url: string;
  readonly livemode: boolean;
}

/** The idempotency key can no longer create a link. */
export const SPOILED_KEY = Symbol("the idempotency key cannot create a link any more");

export type Created = PaymentLink | Outcome | typeof SPOILED_KEY;

// Three attempts fit into the table's time limit, so that this file classifies the timeout and not the engine.
const TIMEOUT_MS = 12_000;
const NETWORK_RETRIES = 2;
const MAX_CLIENTS = 500;

const clients = new Map<string, Stripe>();

function clientFor({ secretKey, baseUrl }: StripeAccount): Stripe {
  const name = `${baseUrl} ${secretKey}`;
  const known = clients.get(name);
  if (known !== undefined) return known;
  const { protocol, hostname, port } = new URL(baseUrl);
  const client = new Stripe(secretKey, {
    host: hostname,
    protocol: protocol === "http:" ? "http" : "https",
    ...(port === "" ? {} : { port }),
    maxNetworkRetries: NETWORK_RETRIES,
    timeout: TIMEOUT_MS,
    telemetry: false,
  });
  // Keys change with the tenants: evicts the oldest client.
  if (clients.size >= MAX_CLIENTS) clients.delete(clients.keys().next().value ?? "");
  clients.set(name, client);
  return client;
}

/** Creates the link. Idempotent under the key. Never throws. */
export async function createPaymentLink(
  account: StripeAccount,
  order: PaymentLinkOrder,
  idempotencyKey: string,
): Promise<Created> {
  const watch = watchRequests();
  try {
    const link = await watch.run(() => clientFor(account).paymentLinks.create(requestOf(order), { idempotencyKey }));
    return linkOf(link);
  } catch (error) {
    if (!watch.begun) return unsent(error);
    return isSpoiled(error) ? SPOILED_KEY : classify(error, account);
  }
}

function linkOf({ id, url, livemode }: Stripe.PaymentLink): PaymentLink {
  return { id, url, livemode };
}

function requestOf(order: PaymentLinkOrder): Stripe.PaymentLinkCreateParams {
  const metadata = metadataOf(order);
  const recurring = order.interval === "one_time" ? {} : { recurring: { interval: order.interval } };
  return {
    line_items: [
      {
        price_data: {
          currency: order.currency,
          product_data: { name: order.name },
          unit_amount: order.amountMinor,
          ...recurring,
        },
        quantity: 1,
      },
    ],
    // Without a limit, a link can be paid any number of times.
    restrictions: { completed_sessions: { limit: 1 } },
    // Opaque ids only: shown in Stripe's dashboard, and used to find a link whose response was lost.
    metadata,
    ...(order.interval === "one_time" ? {} : { subscription_data: { metadata } }),
    after_completion:
      order.successUrl === null
        ? { type: "hosted_confirmation" }
        : { type: "redirect", redirect: { url: order.successUrl } },
  };
}

function metadataOf({ tenantId, requestId, generation }: LinkName): { tenant: string; request: string; link: string } {
  return { tenant: tenantId, request: requestId, link: String(generation) };
}

/** Identifies one link of a request. */
export type LinkName = Pick<PaymentLinkOrder, "tenantId" | "requestId" | "generation">;

/**
 * The active link of this name; null if it does not exist. Stripe cannot search links by metadata,
 * so this reads the whole list, newest first.
 */
export async function findPaymentLink(
  account: StripeAccount,
  name: LinkName,
  signal: AbortSignal,
): Promise<PaymentLink | Outcome | null> {
  const wanted = metadataOf(name);
  const watch = watchRequests();
  try {
    return await watch.run(async () => {
      for await (const link of clientFor(account).paymentLinks.list({ active: true, limit: 100 })) {
        const { request, link: generation } = link.metadata;
        if (request === wanted.request && generation === wanted.link) return linkOf(link);
        if (signal.aborted) return { kind: "retry", reason: "timed out while reading Stripe's list of payment links" };
      }
      return null;
    });
  } catch (error) {
    return watch.begun ? classify(error, account) : unsent(error);
  }
}

/** Deactivates the link. Idempotent. Never throws. */
export async function deactivatePaymentLink(account: StripeAccount, linkId: string): Promise<Outcome> {
  const watch = watchRequests();
  try {
    await watch.run(() => clientFor(account).paymentLinks.update(linkId, { active: false }));
    return { kind: "completed" };
  } catch (error) {
    return watch.begun ? classify(error, account) : unsent(error);
  }
}

/**
 * Whether retrying under this key cannot succeed: Stripe has stored a 5xx for it, or the key was
 * first used with other parameters (by an older version of this program).
 */
function isSpoiled(error: unknown): boolean {
  if (!(error instanceof Stripe.errors.StripeError)) return false;
  if (error instanceof Stripe.errors.StripeIdempotencyError) return error.statusCode === 400;
  return (error.statusCode ?? 0) >= 500 && error.headers?.["idempotent-replayed"] === "true";
}

/**
 * Maps an error of the SDK to an outcome. All attempts of a request use one idempotency key, so every
 * transient error is retried: no response, a conflict (409), a rate limit (429), a 5xx.
 */
export function classify(error: unknown, account: Pick<StripeAccount, "owner">): Outcome {
  if (!(error instanceof Stripe.errors.StripeError)) return { kind: "retry", reason: `Stripe: ${messageOf(error)}` };
  const { statusCode: status, message } = error;
  if (status === undefined) return { kind: "retry", reason: `Stripe did not answer: ${message}` };
  const reason = `Stripe answered ${status}: ${message}`;
  if (error instanceof Stripe.errors.StripeRateLimitError) {
    // Stripe does not say when to retry, and one tenant's limit must not delay other tenants.
    return { kind: "retry", reason };
  }
  if (status === 401 || status === 403) {
    return account.owner === "tenant"
      ? {
          kind: "hold",
          scope: "tenant",
          reason: `${reason} (set the tenant's Stripe credential again, then call brainops.resume)`,
        }
      : {
          kind: "hold",
          // A 401 is about the key. A 403 may be about something in the row.
          scope: status === 401 ? "everyone" : "tenant_first",
          reason: `${reason} (check STRIPE_SECRET_KEY, then call brainops.resume)`,
        };
  }
  if (status === 409 || status >= 500) return { kind: "retry", reason };
  return { kind: "fail", reason };
}
