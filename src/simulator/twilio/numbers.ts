// The behaviour of numbers: Twilio's magic numbers are rejected at once (twilio.com/docs/iam/test-credentials); a number
// that ends in the code of a delivery error gets that error.
import type { Fate, Refusal } from "./types.ts";

const magicRecipients: Readonly<Record<string, [number, string]>> = {
  "+15005550001": [21211, "Invalid 'To' Phone Number: +15005550001"],
  "+15005550002": [
    21612,
    "Message cannot be sent with the current combination of 'To' (+15005550002) and 'From' parameters",
  ],
  "+15005550003": [
    21408,
    "Permission to send an SMS or MMS has not been enabled for the region indicated by the 'To' number: +15005550003",
  ],
  "+15005550004": [21610, "Attempt to send to unsubscribed recipient"],
  "+15005550009": [21614, "'To' number is not a valid mobile number: +15005550009"],
};

const magicSenders: Readonly<Record<string, [number, string]>> = {
  "+15005550001": [21212, "Invalid From Number (caller ID): +15005550001"],
  "+15005550007": [
    21606,
    "The 'From' phone number provided (+15005550007) is not a valid message-capable Twilio phone number for this destination",
  ],
  "+15005550008": [21611, "This 'From' number has exceeded the maximum number of queued messages"],
};

/** Why a text between these numbers is rejected regardless of its content; null if it is not. */
export function magicRefusal(to: string, from: string | null): Refusal | null {
  const found = (from === null ? undefined : magicSenders[from]) ?? magicRecipients[to];
  return found === undefined ? null : { status: 400, code: found[0], message: found[1] };
}

/** Error codes that occur after acceptance, and their status. */
const deliveryErrors: Readonly<Record<number, "undelivered" | "failed">> = {
  30001: "failed",
  30002: "failed",
  30003: "undelivered",
  30004: "undelivered",
  30005: "undelivered",
  30006: "undelivered",
  30007: "undelivered",
  30008: "undelivered",
  30032: "undelivered",
  30034: "undelivered",
};

/** The fate of texts to a number. +13035530003 ends in 30003: the handset is unreachable. */
export function fateOf(number: string): Fate {
  const errorCode = Number(number.slice(-5));
  const status = deliveryErrors[errorCode];
  return status === undefined ? { status: "delivered" } : { status, errorCode };
}

/** Whether the text is E.164. Short codes and messaging services can only be senders. */
export function isPhoneNumber(text: string): boolean {
  return /^\+[1-9]\d{6,14}$/.test(text);
}

/** The default keywords that Twilio recognises; the whole text must match. */
export function keywordOf(body: string): "stop" | "start" | "help" | null {
  switch (body.trim().toUpperCase()) {
    case "STOP":
    case "STOPALL":
    case "UNSUBSCRIBE":
    case "CANCEL":
    case "END":
    case "QUIT":
    case "REVOKE":
    case "OPTOUT":
      return "stop";
    case "START":
    case "YES":
    case "UNSTOP":
      return "start";
    case "HELP":
    case "INFO":
      return "help";
    default:
      return null;
  }
}
