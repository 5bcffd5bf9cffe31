// Standard Webhooks (standardwebhooks.com): HMAC-SHA256 over id, time and body. The library only
// signs: its check of the time uses the process's clock, and ours is injected.
import { isUtf8 } from "node:buffer";
import { timingSafeEqual } from "node:crypto";
import { Webhook } from "standardwebhooks";

/** The signature headers of a message. */
export interface SignedHeaders {
  /** A message that is sent again has the same id. */
  readonly id: string;
  /** Unix seconds. */
  readonly timestamp: number;
  /** v1,<base64>; several, separated by spaces, during a secret rotation. */
  readonly signature: string;
}

// The specification's recommendation, for the past and the future.
const TOLERANCE_SECONDS = 5 * 60;

/** Null if a header is missing or malformed. */
export function signedHeaders(headers: Readonly<Record<string, string | string[] | undefined>>): SignedHeaders | null {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signature } = headers;
  if (typeof id !== "string" || typeof timestamp !== "string" || typeof signature !== "string") return null;
  // The signed text is id.timestamp.body: with a dot in the id, two messages could share it.
  if (!/^[^\s.]{1,200}$/.test(id) || !/^\d{1,12}$/.test(timestamp)) return null;
  return { id, timestamp: Number(timestamp), signature };
}

/** Whether the signed time is within 5 minutes of now (unix milliseconds). */
export function isTimely({ timestamp }: SignedHeaders, nowMs: number): boolean {
  return Math.abs(nowMs / 1000 - timestamp) <= TOLERANCE_SECONDS;
}

/** Whether the secret (whsec_…) signed exactly these bytes. */
export function isGenuine(secret: string, { id, timestamp, signature }: SignedHeaders, body: Buffer): boolean {
  // The library signs text. Invalid UTF-8 would be decoded to U+FFFD, so different bytes could share a signature.
  if (!isUtf8(body)) return false;
  const expected = Buffer.from(new Webhook(secret).sign(id, new Date(timestamp * 1000), body.toString("utf8")));
  return signature.split(" ").some((one) => {
    const given = Buffer.from(one);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
}
