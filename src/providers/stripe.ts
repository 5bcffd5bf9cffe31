// Stripe, thin over its SDK: one client for each key, payment links, and what its errors mean.
import { Stripe } from "stripe";
import { messageOf } from "../errors.ts";
import type { Outcome } from "../jobs/outcome.ts";

/** Whose account, and where the API is. */
export interface StripeAccount {
  readonly secretKey: string;
  readonly baseUrl: string;
  /** Whether it is the tenant's own and not the installation's. */
  readonly isTenants: boolean;
}

export interface PaymentLinkOrder {
  readonly tenantId: string;
  readonly requestId: string;
  /** Which of the request's links: it may get another after this one. */
  readonly generation: number;
  /** What the payer reads. */
  readonly name: string;
  /** In Stripe's units of the currency. */
  readonly amountMinor: number;
  readonly currency: string;
  readonly interval: "one_time" | "month" | "year";
  /** Where the payer is led afterwards; null for Stripe's own page. */
  readonly successUrl: string | null;
}

export interface PaymentLink {
  readonly id: string;
  readonly url: string;
  readonly livemode: boolean;
}

/** Nothing comes of this key any more. */
export const SPOILED_KEY = Symbol("the key is spoiled");

export type Created = PaymentLink | Outcome | typeof SPOILED_KEY;

// Three tries within the table's time limit, so that the outcome is written by the handler itself.
const TIMEOUT_MS = 12_000;
const NETWORK_RETRIES = 2;
const MOST_CLIENTS = 500;

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
  // Keys come and go with the tenants; the oldest client makes room.
  if (clients.size >= MOST_CLIENTS) clients.delete(clients.keys().next().value ?? "");
  clients.set(name, client);
  return client;
}

/** Creates the link, once under the key however often it is asked. Never throws. */
export async function createPaymentLink(
  account: StripeAccount,
  order: PaymentLinkOrder,
  idempotencyKey: string,
): Promise<Created> {
  try {
    const link = await clientFor(account).paymentLinks.create(requestOf(order), { idempotencyKey });
    return linkOf(link);
  } catch (error) {
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
    // Links can be used again and again unless they are told not to.
    restrictions: { completed_sessions: { limit: 1 } },
    // Opaque ids only: for people who look at Stripe's dashboard, and to find a link whose answer was lost.
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

/** What one link of a request is told from all others by. */
export type LinkName = Pick<PaymentLinkOrder, "tenantId" | "requestId" | "generation">;

/**
 * The active link of this name, or null: Stripe has no search by metadata, so its list is read, the
 * newest first, to the end.
 */
export async function findPaymentLink(
  account: StripeAccount,
  name: LinkName,
  signal: AbortSignal,
): Promise<PaymentLink | Outcome | null> {
  const wanted = metadataOf(name);
  try {
    for await (const link of clientFor(account).paymentLinks.list({ active: true, limit: 100 })) {
      const { request, link: generation } = link.metadata;
      if (request === wanted.request && generation === wanted.link) return linkOf(link);
      if (signal.aborted) return { kind: "retry", reason: "Stripe's list of links was not read to its end in time" };
    }
    return null;
  } catch (error) {
    return classify(error, account);
  }
}

/** Switches the link off; a second time changes nothing. Never throws. */
export async function deactivatePaymentLink(account: StripeAccount, linkId: string): Promise<Outcome> {
  try {
    await clientFor(account).paymentLinks.update(linkId, { active: false });
    return { kind: "completed" };
  } catch (error) {
    return classify(error, account);
  }
}

/**
 * Whether it will not heal under this key: a 5xx that Stripe keeps and gives again, or a request that
 * is spelled otherwise than the key's first one (by an older version of this program).
 */
function isSpoiled(error: unknown): boolean {
  if (!(error instanceof Stripe.errors.StripeError)) return false;
  if (error instanceof Stripe.errors.StripeIdempotencyError) return error.statusCode === 400;
  return (error.statusCode ?? 0) >= 500 && error.headers?.["idempotent-replayed"] === "true";
}

/**
 * What an error of the SDK means. All tries of a request carry one key, so whatever may pass is
 * tried again: no answer, a conflict, a 5xx. A 429 holds everything that goes to Stripe.
 */
export function classify(error: unknown, account: Pick<StripeAccount, "isTenants">): Outcome {
  if (!(error instanceof Stripe.errors.StripeError)) return { kind: "retry", reason: `Stripe: ${messageOf(error)}` };
  const { statusCode: status, message } = error;
  if (status === undefined) return { kind: "retry", reason: `Stripe gave no answer: ${message}` };
  const reason = `Stripe answered ${status}: ${message}`;
  if (error instanceof Stripe.errors.StripeRateLimitError) {
    // Stripe names no time. A tenant's own limit is no reason to hold the others.
    return { kind: "retry", reason };
  }
  if (status === 401 || status === 403) {
    return account.isTenants
      ? {
          kind: "hold",
          scope: "tenant",
          reason: `${reason} (write the tenant's Stripe credential again, then brainops.resume)`,
        }
      : { kind: "hold", scope: "everyone", reason: `${reason} (check STRIPE_SECRET_KEY, then brainops.resume)` };
  }
  if (status === 409 || status >= 500) return { kind: "retry", reason };
  return { kind: "fail", reason };
}
