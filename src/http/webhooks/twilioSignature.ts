// The signature of Twilio's webhooks: HMAC-SHA1 under the account's auth token over the URL that
// Twilio was given and the sorted parameters of the body. It covers the query, so our own id in it
// can be believed; it carries no time, so what comes twice is recognised by the ledger.
import { createHmac, timingSafeEqual } from "node:crypto";

export const SIGNATURE_HEADER = "x-twilio-signature";

/** Parameters by name, in the order they came; a name may come several times. */
export type Parameters = ReadonlyMap<string, readonly string[]>;

/** Whether the account's token signed this. Never throws. */
export function isGenuine(authToken: string, url: string, parameters: Parameters, signature: string): boolean {
  const given = Buffer.from(signature);
  // Whether the port is in the signed URL depends on the scheme and on Twilio's mood: both are tried.
  return spellings(url).some((spelling) => {
    const expected = Buffer.from(sign(authToken, spelling, parameters));
    return expected.length === given.length && timingSafeEqual(expected, given);
  });
}

/** The signature that Twilio sends for a request to the URL. */
export function sign(authToken: string, url: string, parameters: Parameters): string {
  const pairs = [...parameters].toSorted(([a], [b]) => (a < b ? -1 : 1));
  // A name that comes several times is there with each different value once, in order.
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

/** The parts are not parsed and put together again: what is signed is the URL to the letter. */
function spellings(url: string): string[] {
  const parts = /^(https?):\/\/(\[[^\]]*\]|[^/:?#]*)(:\d+)?(.*)$/is.exec(url);
  if (parts === null) return [url];
  const [, scheme = "", host = "", port, rest = ""] = parts;
  const usual = port ?? (scheme.toLowerCase() === "https" ? ":443" : ":80");
  return [`${scheme}://${host}${rest}`, `${scheme}://${host}${usual}${rest}`];
}

/** A body of the type application/x-www-form-urlencoded. */
export function parseParameters(body: Buffer): Parameters {
  const parameters = new Map<string, string[]>();
  for (const [name, value] of new URLSearchParams(body.toString("utf8"))) {
    const values = parameters.get(name);
    if (values === undefined) parameters.set(name, [value]);
    else values.push(value);
  }
  return parameters;
}
