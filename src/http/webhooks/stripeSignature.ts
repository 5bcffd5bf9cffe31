// The signature of Stripe's webhooks: t=<unix seconds>,v1=<hex>, HMAC-SHA256 over "t.body". Does not use the SDK, which
// checks only that the time is not too old, and accepts an event signed for tomorrow.
import { createHmac, timingSafeEqual } from "node:crypto";

export const SIGNATURE_HEADER = "stripe-signature";

// Stripe signs every delivery with the current time, retries included.
const TOLERANCE_SECONDS = 300;
// During a secret rotation there are two. Many more would be an attempt to guess.
const MAX_SIGNATURES = 10;

export interface StripeSignature {
  /** Unix seconds, as the text that was signed. */
  readonly timestamp: string;
  /** Every v1, in hexadecimal; other versions are ignored. */
  readonly signatures: readonly string[];
}

/** Null if the header is missing, or has no time, two times, no v1 or more than MAX_SIGNATURES of them. */
export function parseSignature(header: unknown): StripeSignature | null {
  if (typeof header !== "string") return null;
  const parts = header.split(",").map((part) => part.trim().split("=", 2) as [string, string?]);
  const valuesOf = (wanted: string): string[] =>
    parts.flatMap(([name, value]) => (name === wanted && value !== undefined ? [value] : []));
  const [timestamp, ...more] = valuesOf("t");
  const signatures = valuesOf("v1");
  if (timestamp === undefined || !/^\d{1,12}$/.test(timestamp) || more.length > 0) return null;
  return signatures.length === 0 || signatures.length > MAX_SIGNATURES ? null : { timestamp, signatures };
}

/** Whether the signed time is within 300 seconds of now (unix milliseconds). */
export function isTimely({ timestamp }: StripeSignature, nowMs: number): boolean {
  return Math.abs(nowMs / 1000 - Number(timestamp)) <= TOLERANCE_SECONDS;
}

/**
 * Whether one of the secrets signed exactly these bytes at this time. Never throws.
 * @param secrets whsec_…; several, separated by commas, during a rotation
 */
export function isGenuine(secrets: string, { timestamp, signatures }: StripeSignature, body: Buffer): boolean {
  const given = signatures.map((signature) => Buffer.from(signature));
  return secretsOf(secrets).some((secret) => {
    const expected = Buffer.from(sign(secret, timestamp, body));
    return given.some((one) => one.length === expected.length && timingSafeEqual(one, expected));
  });
}

/** The v1 signature of a body, in hexadecimal. */
export function sign(secret: string, timestamp: string, body: Buffer): string {
  return createHmac("sha256", secret).update(`${timestamp}.`).update(body).digest("hex");
}

function secretsOf(secrets: string): string[] {
  return secrets
    .split(",")
    .map((secret) => secret.trim())
    .filter((secret) => secret !== "");
}
