// Limits how often one client may fail: guess a link's token, name an unknown endpoint, send a wrong signature. Failures
// are counted and not requests, so that people behind one address, and providers, are not limited by what they do right.
// In memory and per process: a flood must not cost a query. Not a library: those at hand count requests, and keep a timer
// or a record per client without a bound.
import { isIP, isIPv6 } from "node:net";

export interface FailureLimitOptions {
  /** Failures allowed at once. */
  readonly burst: number;
  /** Failures allowed per second in the long run. */
  readonly perSecond: number;
  /** Clients that are remembered; beyond that the ones seen least recently are forgotten. @default 20,000 */
  readonly maxClients?: number;
  /** Unix milliseconds. */
  readonly now: () => number;
}

interface Bucket {
  tokens: number;
  at: number;
}

/** A token bucket for each client. A client without a bucket has a full one. */
export class FailureLimit {
  readonly #buckets = new Map<string, Bucket>();
  readonly #burst: number;
  readonly #perMs: number;
  readonly #maxClients: number;
  readonly #now: () => number;

  constructor({ burst, perSecond, maxClients = 20_000, now }: FailureLimitOptions) {
    this.#burst = burst;
    this.#perMs = perSecond / 1000;
    this.#maxClients = maxClients;
    this.#now = now;
  }

  /**
   * Counts a failure, or a request that may become one: then call `giveBack` if it did not. Counting before the
   * outcome is known limits parallel requests, too. Returns 0, or the seconds to wait if the client has used up its
   * failures; then nothing was counted.
   */
  take(client: string): number {
    const bucket = this.#refilled(client);
    if (bucket.tokens < 1) return Math.max(1, Math.ceil((1 - bucket.tokens) / this.#perMs / 1000));
    bucket.tokens--;
    return 0;
  }

  /** Takes back what `take` counted. */
  giveBack(client: string): void {
    const bucket = this.#refilled(client);
    bucket.tokens = Math.min(this.#burst, bucket.tokens + 1);
    if (bucket.tokens >= this.#burst) this.#buckets.delete(client);
  }

  /** Clients that are remembered. */
  get size(): number {
    return this.#buckets.size;
  }

  #refilled(client: string): Bucket {
    const now = this.#now();
    const known = this.#buckets.get(client);
    const bucket = known ?? { tokens: this.#burst, at: now };
    bucket.tokens = Math.min(this.#burst, bucket.tokens + Math.max(0, now - bucket.at) * this.#perMs);
    bucket.at = now;
    // Moved to the end: a Map keeps the order of insertion, so its first key is the one seen least recently.
    if (known !== undefined) this.#buckets.delete(client);
    this.#buckets.set(client, bucket);
    for (const oldest of this.#buckets.keys()) {
      if (this.#buckets.size <= this.#maxClients) break;
      this.#buckets.delete(oldest);
    }
    return bucket;
  }
}

/** The client that an address stands for: an IPv4 address, or the /64 network of an IPv6 address, which is one line. */
export function clientOf(address: string): string {
  const [text = ""] = address.slice(0, 64).split("%");
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(text)?.[1];
  if (mapped !== undefined && isIP(mapped) === 4) return mapped;
  if (!isIPv6(text)) return text;
  const [left = "", right] = text.split("::");
  const groups = left === "" ? [] : left.split(":");
  if (right !== undefined) {
    const rest = right === "" ? [] : right.split(":");
    // An IPv4 address at the end stands for two groups.
    const length = rest.length + (right.includes(".") ? 1 : 0);
    groups.push(...Array.from({ length: 8 - groups.length - length }, () => "0"), ...rest);
  }
  const network = groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16));
  return `${network.join(":")}::/64`;
}
