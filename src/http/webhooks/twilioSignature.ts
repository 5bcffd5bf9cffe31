// The signature of Twilio's webhooks: HMAC-SHA1 with the account's auth token over the URL configured
// at Twilio and the sorted parameters of the body. It covers the query, so the row id in it is
// trustworthy. It covers no time: replays are detected by the ledger, and after that by what they did (sms/callbacks.sql,
// sms/inbound.sql).
import { createHmac, timingSafeEqual } from "node:crypto";

export const SIGNATURE_HEADER = "x-twilio-signature";

/** Parameter values by name, in the order received; a name may occur several times. */
export type Parameters = ReadonlyMap<string, readonly string[]>;

/** Whether the account's auth token signed this URL and these parameters. Never throws. */
export function isGenuine(authToken: string, url: string, parameters: Parameters, signature: string): boolean {
  const given = Buffer.from(signature);
  // Twilio signs some URLs with their default port and some without, so both are accepted.
  return withAndWithoutPort(url).some((candidate) => {
    const expected = Buffer.from(sign(authToken, candidate, parameters));
    return expected.length === given.length && timingSafeEqual(expected, given);
  });
}

/** The signature that Twilio sends with a request to the URL. */
export function sign(authToken: string, url: string, parameters: Parameters): string {
  const pairs = [...parameters].toSorted(([a], [b]) => (a < b ? -1 : 1));
  // A name that occurs several times is signed once per distinct value, in order.
  const text = pairs.map(([name, values]) =>
    [...new Set(values)]
      .toSorted()
      .map((value) => name + value)
      .join(""),
  );
  return createHmac("sha1", authToken)
    .update(url + text.join(""))
    .digest("base64");
}

/** The URL without a port and with one. Does not use the URL class, which normalises: the signature covers the exact text. */
function withAndWithoutPort(url: string): string[] {
  const parts = /^(https?):\/\/(\[[^\]]*\]|[^/:?#]*)(:\d+)?(.*)$/is.exec(url);
  if (parts === null) return [url];
  const [, scheme = "", host = "", port, rest = ""] = parts;
  const shownPort = port ?? (scheme.toLowerCase() === "https" ? ":443" : ":80");
  return [`${scheme}://${host}${rest}`, `${scheme}://${host}${shownPort}${rest}`];
}

/** Parses a body of type application/x-www-form-urlencoded. */
export function parseParameters(body: Buffer): Parameters {
  const parameters = new Map<string, string[]>();
  for (const [name, value] of new URLSearchParams(body.toString("utf8"))) {
    const values = parameters.get(name);
    if (values === undefined) parameters.set(name, [value]);
    else values.push(value);
  }
  return parameters;
}
