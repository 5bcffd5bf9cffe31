// POST Messages.json: reads the request, and rejects it in Twilio's order and with its messages.
import type { CreateRequest, Refusal } from "./types.ts";
import { isPhoneNumber, magicRefusal } from "./numbers.ts";

/** "The message body exceeds the 1600 character limit", error 21617. */
const MAX_CHARACTERS = 1600;

export function readCreate(form: URLSearchParams): CreateRequest {
  const text = (name: string): string | null => {
    const value = form.get(name);
    return value === null || value === "" ? null : value;
  };
  return {
    to: form.get("To") ?? "",
    from: text("From"),
    messagingServiceSid: text("MessagingServiceSid"),
    body: form.get("Body") ?? "",
    statusCallback: text("StatusCallback"),
  };
}

/** Why the request is invalid, regardless of the account's state; null if it is valid. */
export function refusalOfCreate({
  to,
  from,
  messagingServiceSid,
  body,
  statusCallback,
}: CreateRequest): Refusal | null {
  const no = (code: number, message: string): Refusal => ({ status: 400, code, message });
  if (to === "") return no(21604, "A 'To' phone number is required.");
  if (from === null && messagingServiceSid === null) return no(21603, "A 'From' phone number is required.");
  if (body === "") return no(21602, "Message body is required.");
  if ([...body].length > MAX_CHARACTERS)
    return no(21617, "The concatenated message body exceeds the 1600 character limit");
  if (statusCallback !== null && !/^https?:\/\//.test(statusCallback)) {
    return no(21609, `The 'StatusCallback' URL ${statusCallback} is not a valid URL.`);
  }
  if (from !== null && !isPhoneNumber(from) && !/^\d{5,6}$/.test(from)) {
    return no(21212, `Invalid From Number (caller ID): ${from}`);
  }
  if (!isPhoneNumber(to)) return no(21211, `Invalid 'To' Phone Number: ${to}`);
  return magicRefusal(to, from);
}

export function optedOut(from: string): Refusal {
  return {
    status: 400,
    code: 21610,
    message: `Attempt to send to unsubscribed recipient (the pair with ${from} is blocked)`,
  };
}
