// The signature of SendGrid's event webhook: ECDSA P-256 over SHA-256 of timestamp and raw body.
// Uses node:crypto (0.15 ms per call), because the SDK's verifier (starkbank-ecdsa, pure JavaScript) takes 10 ms and
// throws on malformed signatures.
import { createPublicKey, verify, type KeyObject } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import { ConfigError } from "../../config.ts";

const SIGNATURE_HEADER = "x-twilio-email-event-webhook-signature";
const TIMESTAMP_HEADER = "x-twilio-email-event-webhook-timestamp";

// SendGrid retries a batch for 24 hours and does not document whether a retry gets a new timestamp.
// The ledger detects replays; the window only bounds how long it must keep events.
const MAX_AGE_SECONDS = 25 * 3600;
const MAX_AHEAD_SECONDS = 5 * 60;

export interface SendgridSignatureHeaders {
  /** As it was signed: unix seconds. */
  readonly timestamp: string;
  /** Base64. */
  readonly signature: string;
}

/** Null if a header is missing. */
export function readSignature(headers: IncomingHttpHeaders): SendgridSignatureHeaders | null {
  const { [TIMESTAMP_HEADER]: timestamp, [SIGNATURE_HEADER]: signature } = headers;
  return typeof timestamp === "string" && typeof signature === "string" ? { timestamp, signature } : null;
}

export class SendgridSignature {
  readonly #keys: readonly KeyObject[];

  /**
   * @param publicKeys base64 SPKI DER; several, separated by commas, during a key rotation. Throws a
   * ConfigError if one of them is malformed.
   */
  constructor(publicKeys: string) {
    this.#keys = publicKeys.split(",").map((text, index) => keyOf(text.trim(), index + 1));
  }

  /** Whether one of the keys signed exactly these bytes at this time. Never throws. */
  isGenuine(timestamp: string, body: Buffer, signature: string): boolean {
    const signed = Buffer.concat([Buffer.from(timestamp), body]);
    const bytes = Buffer.from(signature, "base64");
    return this.#keys.some((key) => verify("sha256", signed, key, bytes));
  }
}

/** Whether the timestamp (unix seconds) is at most 25 hours before and 5 minutes after now (unix milliseconds). */
export function isTimely(timestamp: string, nowMs: number): boolean {
  if (!/^\d{1,12}$/.test(timestamp)) return false;
  const age = nowMs / 1000 - Number(timestamp);
  return age <= MAX_AGE_SECONDS && age >= -MAX_AHEAD_SECONDS;
}

function keyOf(text: string, position: number): KeyObject {
  let key: KeyObject | null = null;
  try {
    key = createPublicKey({ key: Buffer.from(text, "base64"), format: "der", type: "spki" });
  } catch {
    // Reported below, without the value: it may be a secret pasted by mistake.
  }
  if (key?.asymmetricKeyType !== "ec" || key.asymmetricKeyDetails?.namedCurve !== "prime256v1") {
    throw new ConfigError(
      `SENDGRID_WEBHOOK_PUBLIC_KEY: key ${position} is not a P-256 public key in base64 (SPKI DER). Copy the ` +
        "verification key from SendGrid's Mail Settings, Event Webhook, Signature Verification.",
    );
  }
  return key;
}
