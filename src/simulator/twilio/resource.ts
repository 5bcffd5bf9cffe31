// A message as Twilio's API represents it, and a page of the list.
import type { Message } from "./types.ts";

export const VERSION = "2010-04-01";

const errorMessages: Readonly<Record<number, string>> = {
  30001: "Queue overflow",
  30002: "Account suspended",
  30003: "Unreachable destination handset",
  30004: "Message blocked",
  30005: "Unknown destination handset",
  30006: "Landline or unreachable carrier",
  30007: "Message filtered",
  30008: "Unknown error",
  30032: "Toll-Free Number Has Not Been Verified",
  30034: "US A2P 10DLC - Message from an Unregistered Number",
};

export function errorMessageOf(code: number | null): string | null {
  return code === null ? null : (errorMessages[code] ?? "Unknown error");
}

export function resourceOf(message: Message): Record<string, unknown> {
  const uri = `/${VERSION}/Accounts/${message.accountSid}/Messages/${message.sid}`;
  // A messaging service chooses the number and counts the segments later.
  const isOpen = message.status === "accepted";
  const hasLeft = !["accepted", "queued", "sending"].includes(message.status);
  return {
    account_sid: message.accountSid,
    api_version: VERSION,
    body: message.body,
    date_created: rfc2822(message.at),
    date_sent: hasLeft ? rfc2822(message.at) : null,
    date_updated: rfc2822(message.at),
    direction: message.direction,
    error_code: message.errorCode,
    error_message: errorMessageOf(message.errorCode),
    from: isOpen ? null : message.from,
    messaging_service_sid: message.messagingServiceSid,
    num_media: "0",
    num_segments: isOpen ? "0" : String(message.segments),
    price: null,
    price_unit: "USD",
    sid: message.sid,
    status: message.status,
    subresource_uris: { media: `${uri}/Media.json` },
    to: message.to,
    uri: `${uri}.json`,
  };
}

/** RFC 2822 times have a resolution of one second. */
function rfc2822(at: number): string {
  return new Date(at).toUTCString().replace("GMT", "+0000");
}

/**
 * One page of the messages that match the filters, newest first.
 * @param query To, From, DateSent, DateSent>, DateSent< (inclusive), PageSize, Page
 */
export function pageOf(accountSid: string, messages: readonly Message[], query: URLSearchParams): object {
  const size = Math.min(Math.max(Number(query.get("PageSize") ?? 50) || 50, 1), 1000);
  const page = Math.max(Number(query.get("Page") ?? 0) || 0, 0);
  const found = messages
    .filter((message) => message.accountSid === accountSid && isWanted(message, query))
    .toReversed();
  const part = found.slice(page * size, (page + 1) * size);
  const uriOf = (n: number): string => {
    const parameters = new URLSearchParams(query);
    parameters.set("PageSize", String(size));
    parameters.set("Page", String(n));
    if (n > 0) parameters.set("PageToken", `PA${part.at(-1)?.sid ?? ""}`);
    else parameters.delete("PageToken");
    return `/${VERSION}/Accounts/${accountSid}/Messages.json?${parameters.toString()}`;
  };
  return {
    messages: part.map(resourceOf),
    page,
    page_size: size,
    start: page * size,
    end: Math.max(page * size + part.length - 1, 0),
    uri: uriOf(page),
    first_page_uri: uriOf(0),
    previous_page_uri: page > 0 ? uriOf(page - 1) : null,
    next_page_uri: found.length > (page + 1) * size ? uriOf(page + 1) : null,
  };
}

function isWanted(message: Message, query: URLSearchParams): boolean {
  const [to, from] = [query.get("To"), query.get("From")];
  if (to !== null && message.to !== to) return false;
  if (from !== null && message.from !== from) return false;
  const [on, after, before] = [query.get("DateSent"), query.get("DateSent>"), query.get("DateSent<")];
  if (on === null && after === null && before === null) return true;
  // A text that was not sent has no date, and so is in no range.
  if (resourceOf(message)["date_sent"] === null) return false;
  return (
    (on === null || compare(message.at, on) === 0) &&
    (after === null || compare(message.at, after) >= 0) &&
    (before === null || compare(message.at, before) <= 0)
  );
}

/** Compares by days if the limit is a date (2026-03-01), else by seconds. */
function compare(at: number, limit: string): number {
  const unit = limit.length === 10 ? 86_400_000 : 1000;
  return Math.floor(at / unit) - Math.floor(Date.parse(limit) / unit);
}
