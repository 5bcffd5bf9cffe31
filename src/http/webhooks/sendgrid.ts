// POST /webhooks/sendgrid, and /webhooks/sendgrid/<token> for tenants' own accounts. SendGrid retries
// for 24 hours after any answer but 2xx.
import type { Config } from "../../config.ts";
import { parseEvents } from "./json.ts";
import { recordEvents } from "./ledger.ts";
import { SEALED_ACCOUNT, type Verifier, type Webhook } from "./receive.ts";
import {
  isTimely,
  readSignature,
  SendgridSignature,
  type SendgridSignatureHeaders as Signed,
} from "./sendgridSignature.ts";

/** Throws a ConfigError if SENDGRID_WEBHOOK_PUBLIC_KEY can't be used. */
export function sendgridWebhook({
  SENDGRID_WEBHOOK_PUBLIC_KEY: key,
}: Config): Webhook<"sendgrid", Signed, readonly unknown[]> {
  return {
    provider: "sendgrid",
    signer: "SendGrid",
    path: "/webhooks/sendgrid",
    // SendGrid posts up to 768 KB.
    bodyLimit: 2 * 1024 * 1024,
    bodyFormat: "JSON array of events",
    needs: [],
    readSignature,
    isTimely: ({ timestamp }, nowMs) => isTimely(timestamp, nowMs),
    platform: {
      needs: ["SENDGRID_WEBHOOK_PUBLIC_KEY"],
      verifier: key === undefined ? null : verifierOf(key),
    },
    tenantVerifier: ({ webhook_public_key: own }) => (own === undefined ? null : verifierOf(own)),
    acceptsInactive: true,
    sealedError: SEALED_ACCOUNT,
    parse: parseEvents,
    accept: ({ body: events, endpoint }, pool) => recordEvents(pool, "sendgrid", events, endpoint),
  };
}

function verifierOf(publicKeys: string): Verifier<Signed> {
  const keys = new SendgridSignature(publicKeys);
  return ({ signed: { timestamp, signature }, body }) => keys.isGenuine(timestamp, body, signature);
}
