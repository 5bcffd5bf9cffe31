// POST /webhooks/stripe, and /webhooks/stripe/<token> for tenants' own accounts. What an event means
// is decided by brainops_internal.apply_stripe_event. Stripe retries for three days after any answer but 2xx.
import type { Config } from "../../config.ts";
import { parseEvent } from "./json.ts";
import { recordEvents } from "./ledger.ts";
import { SEALED_ACCOUNT, type Verifier, type Webhook } from "./receive.ts";
import { isGenuine, isTimely, parseSignature, SIGNATURE_HEADER, type StripeSignature } from "./stripeSignature.ts";

export function stripeWebhook({ STRIPE_WEBHOOK_SECRET: secrets }: Config): Webhook<"stripe", StripeSignature, object> {
  return {
    provider: "stripe",
    signer: "Stripe",
    path: "/webhooks/stripe",
    // An invoice with all its lines can have several hundred KB.
    bodyLimit: 1024 * 1024,
    bodyFormat: "JSON object",
    needs: [],
    readSignature: (headers) => parseSignature(headers[SIGNATURE_HEADER]),
    isTimely,
    platform: {
      needs: ["STRIPE_WEBHOOK_SECRET"],
      verifier: secrets === undefined ? null : verifierOf(secrets),
    },
    tenantVerifier: ({ webhook_secret: own }) => (own === undefined ? null : verifierOf(own)),
    // Refunds still arrive after the tenant has switched the account off.
    acceptsInactive: true,
    sealedError: SEALED_ACCOUNT,
    parse: parseEvent,
    accept: ({ body: event, endpoint }, pool) => recordEvents(pool, "stripe", [event], endpoint),
  };
}

function verifierOf(secrets: string): Verifier<StripeSignature> {
  return ({ signed, body }) => isGenuine(secrets, signed, body);
}
