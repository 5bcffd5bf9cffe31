// The signature of Stripe's webhooks: t=<unix seconds>,v1=<hex>, HMAC-SHA256 over "t.body". Not by
// the SDK, whose check of the time looks at the past alone: it takes an event signed for tomorrow.
import { createHmac, timingSafeEqual } from "node:crypto";

export const SIGNATURE_HEADER = "stripe-signature";

// Stripe signs each delivery anew, retries too.
const TOLERANCE_SECONDS = 300;
// While a secret is rolled there are two; more are somebody trying.
const MOST_SIGNATURES = 10;

export interface StripeSignature {
  /** As it was signed: unix seconds. */
  readonly timestamp: string;
  /** Each v1, in hexadecimal; what has another version is not counted. */
  readonly signatures: readonly string[];
}

/** The header's parts; null where it has no time or no v1. */
export function parseSignature(header: unknown): StripeSignature | null {
  if (typeof header !== "string") return null;
  const parts = header.split(",").map((part) => part.trim().split("=", 2) as [string, string?]);
  const valuesOf = (wanted: string): string[] =>
    parts.flatMap(([name, value]) => (name === wanted && value !== undefined ? [value] : []));
  const [timestamp, ...more] = valuesOf("t");
  const signatures = valuesOf("v1");
  if (timestamp === undefined || !/^\d{1,12}$/.test(timestamp) || more.length > 0) return null;
  return signatures.length === 0 || signatures.length > MOST_SIGNATURES ? null : { timestamp, signatures };
}

/** Whether the signed time is near now (unix milliseconds), on either side. */
export function isTimely({ timestamp }: StripeSignature, nowMs: number): boolean {
  return Math.abs(nowMs / 1000 - Number(timestamp)) <= TOLERANCE_SECONDS;
}

/**
 * Whether one of the secrets signed exactly these bytes at this time. Never throws.
 * @param secrets whsec_…, several separated by commas while they are changed
 */
export function isGenuine(secrets: string, { timestamp, signatures }: StripeSignature, body: Buffer): boolean {
  const given = signatures.map((signature) => Buffer.from(signature));
  return secretsOf(secrets).some((secret) => {
    const expected = Buffer.from(sign(secret, timestamp, body));
    return given.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
  });
}

/** The v1 of a body, in hexadecimal. */
export function sign(secret: string, timestamp: string, body: Buffer): string {
  return createHmac("sha256", secret).update(`${timestamp}.`).update(body).digest("hex");
}

function secretsOf(secrets: string): string[] {
  return secrets
    .split(",")
    .map((secret) => secret.trim())
    .filter((secret) => secret !== "");
}
