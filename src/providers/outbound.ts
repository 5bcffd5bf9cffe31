// Requests to URLs that a tenant has chosen, or that were chosen for one. Such a URL must not reach what only this
// machine can reach, nor show the tenant what is there:
// - https on its usual port, without credentials in the URL;
// - only public addresses. The address that was checked is the one connected to: the name is resolved once, and the
//   socket gets the addresses found, so a second answer of the name server cannot replace them;
// - no redirects: a 3xx is an answer like any other;
// - a time limit over everything, and a limit for the answer.
// Not for the providers' own addresses, which are the operator's choice.
import { lookup } from "node:dns/promises";
import type { IncomingHttpHeaders, IncomingMessage } from "node:http";
import { request as requestHttp, type RequestOptions } from "node:http";
import { request as requestHttps } from "node:https";
import { isIP, type LookupFunction } from "node:net";
import { isPublicAddress } from "./publicAddress.ts";

const TIMEOUT_MS = 10_000;
const MAX_BYTES = 64 * 1024;

export interface OutboundRequest {
  readonly method: "GET" | "POST";
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
  /**
   * The operator's configuration names this URL: any scheme, port and address is allowed. The other limits stay.
   * @default false
   */
  readonly isOperators?: boolean;
  /** Of the whole exchange, in milliseconds. @default 10,000 */
  readonly timeoutMs?: number;
  /** Bytes of the answer that are read; the rest is dropped. @default 65,536 */
  readonly maxBytes?: number;
  /** Resolves a host name to all its addresses. @default the system's resolver */
  readonly resolve?: (hostname: string) => Promise<readonly { readonly address: string; readonly family: number }[]>;
}

export interface OutboundAnswer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  /** At most maxBytes, as UTF-8. Compressed content is not decompressed: it was not asked for. */
  readonly body: string;
}

/** The URL, or an address that it leads to, is not allowed. Nothing was sent. The message contains the host name only. */
export class OutboundRefusedError extends Error {
  override name = "OutboundRefusedError";
}

/**
 * Sends one request. Throws an OutboundRefusedError, an AbortError or TimeoutError of the signals, or Node's error of
 * the connection. Messages of these errors may name addresses: show a tenant their codes only.
 */
export async function sendOutbound(url: URL, request: OutboundRequest): Promise<OutboundAnswer> {
  const { isOperators = false, timeoutMs = TIMEOUT_MS } = request;
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(timeoutMs)]);
  if (isOperators) return exchange(url, request, signal, {});
  refuseUrl(url);
  const addresses = await vettedAddresses(hostOf(url), request.resolve ?? resolveAll, signal);
  return exchange(url, request, signal, { lookup: only(addresses) });
}

/** Throws unless the URL is https on port 443 without credentials. */
function refuseUrl(url: URL): void {
  if (url.protocol !== "https:") throw new OutboundRefusedError("the URL is not https");
  // The URL class drops a port that is the scheme's default.
  if (url.port !== "") throw new OutboundRefusedError("the URL names a port");
  if (url.username !== "" || url.password !== "") throw new OutboundRefusedError("the URL contains credentials");
}

interface Address {
  readonly address: string;
  readonly family: number;
}

/** All addresses of the host. Throws if there is none, or if a single one of them is not public. */
async function vettedAddresses(
  host: string,
  resolve: NonNullable<OutboundRequest["resolve"]>,
  signal: AbortSignal,
): Promise<readonly Address[]> {
  const family = isIP(host);
  const addresses = family === 0 ? await beforeAbort(resolve(host), signal) : [{ address: host, family }];
  if (addresses.length === 0) throw new OutboundRefusedError(`${host} has no address`);
  if (!addresses.every(({ address }) => isPublicAddress(address))) {
    throw new OutboundRefusedError(`${host} does not lead to a public address`);
  }
  return addresses;
}

function resolveAll(hostname: string): Promise<readonly Address[]> {
  return lookup(hostname, { all: true });
}

/** Resolving cannot be cancelled; a late answer is ignored. */
async function beforeAbort<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  const onAbort = (): void => reject(signal.reason);
  signal.addEventListener("abort", onAbort, { once: true });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", onAbort);
  }
}

/** A lookup for the socket that answers with these addresses, whatever the name. */
function only(addresses: readonly Address[]): LookupFunction {
  return (_hostname, { all }, done) => {
    const [first] = addresses;
    if (all === true) done(null, [...addresses]);
    else if (first !== undefined) done(null, first.address, first.family);
  };
}

/** The host without the brackets of an IPv6 address. */
function hostOf({ hostname }: URL): string {
  return hostname.replace(/^\[(.*)\]$/, "$1");
}

function exchange(
  url: URL,
  { method, headers, body, maxBytes = MAX_BYTES, isOperators = false }: OutboundRequest,
  signal: AbortSignal,
  options: Pick<RequestOptions, "lookup">,
): Promise<OutboundAnswer> {
  const send = url.protocol === "https:" ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    // agent: false is a connection of its own, which no other tenant's request shares, and no proxy.
    const outgoing = send(url, { ...options, agent: false, method, headers, signal }, (incoming) => {
      readAtMost(incoming, maxBytes).then(
        (text) => resolve({ status: incoming.statusCode ?? 0, headers: incoming.headers, body: text }),
        reject,
      );
    });
    outgoing.on("error", reject);
    outgoing.on("socket", (socket) => {
      socket.on("connect", () => {
        if (isOperators || isPublicAddress(socket.remoteAddress ?? "")) return;
        outgoing.destroy(new OutboundRefusedError(`${hostOf(url)} does not lead to a public address`));
      });
    });
    outgoing.end(body);
  });
}

async function readAtMost(incoming: IncomingMessage, maxBytes: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of incoming as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    length += chunk.length;
    // Leaving the loop destroys the stream, and with it the connection.
    if (length >= maxBytes) break;
  }
  return Buffer.concat(chunks).subarray(0, maxBytes).toString("utf8");
}
