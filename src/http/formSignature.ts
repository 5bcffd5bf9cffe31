// Standard Webhooks (standardwebhooks.com): HMAC-SHA256 of id, time and body. The library signs; the
// times are compared here, because it goes by the process's own clock.
import { isUtf8 } from "node:buffer";
import { timingSafeEqual } from "node:crypto";
import { Webhook } from "standardwebhooks";

/** Headers of a signed message. */
export interface SignedHeaders {
  /** Whoever sends the same message again sends the same id. */
  readonly id: string;
  /** Unix seconds. */
  readonly timestamp: number;
  /** v1,<base64>; several separated by blanks while a secret is changed. */
  readonly signature: string;
}

// What the specification recommends, in both directions.
const TOLERANCE_SECONDS = 5 * 60;

/** Null where a header is missing or can't be one. */
export function signedHeaders(headers: Readonly<Record<string, string | string[] | undefined>>): SignedHeaders | null {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature } = headers;
  if (typeof id !== "string" || typeof timestamp !== "string" || typeof signature !== "string") return null;
  // A dot would let two messages have one signed text.
  if (!/^[^\s.]{1,200}$/.test(id) || !/^\d{1,12}$/.test(timestamp)) return null;
  return { id, timestamp: Number(timestamp), signature };
}

/** Whether the signed time is near enough to now (milliseconds). */
export function isTimely({ timestamp }: SignedHeaders, nowMs: number): boolean {
  return Math.abs(nowMs / 1000 - timestamp) <= TOLERANCE_SECONDS;
}

/** Whether the secret (whsec_…) signed exactly these bytes. */
export function isGenuine(secret: string, { id, timestamp, signature }: SignedHeaders, body: Buffer): boolean {
  // The library signs text: bytes that are none would count as others that look alike.
  if (!isUtf8(body)) return false;
  const expected = Buffer.from(new Webhook(secret).sign(id, new Date(timestamp * 1000), body.toString("utf8")));
  return signature.split(" ").some((one) => {
    const given = Buffer.from(one);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}
