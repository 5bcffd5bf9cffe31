// The idempotency keys of an account. The first response of a key is stored for 24 hours and repeated, even a 5xx.
// A request that was rejected before anything was executed (400, 401, 404, 429) leaves the key free.
import { DAY } from "./clock.ts";
import { keyInUse, keyReused, Refusal } from "./errors.ts";

export interface Answer {
  status: number;
  body: object;
}

export interface StoredAnswer extends Answer {
  /** The Request-Id of the request that was executed. */
  requestId: string;
}

interface Entry {
  endpoint: string;
  fingerprint: string;
  at: number;
  /** Null while the first request is running. */
  answer: StoredAnswer | null;
}

export class IdempotencyKeys {
  readonly #entries = new Map<string, Entry>();

  get size(): number {
    return this.#entries.size;
  }

  /** The stored response; null for a new key. Throws if the key belongs to another request. `now` in seconds. */
  look(key: string, endpoint: string, fingerprint: string, now: number): StoredAnswer | null {
    if (key.length > 255) {
      throw new Refusal(400, { type: "invalid_request_error", message: "Idempotency keys may have 255 characters." });
    }
    const entry = this.#entries.get(key);
    if (entry === undefined) return null;
    if (now - entry.at > DAY) {
      this.#entries.delete(key);
      return null;
    }
    if (entry.endpoint !== endpoint || entry.fingerprint !== fingerprint) {
      throw keyReused(key, entry.endpoint === endpoint, entry.endpoint, endpoint);
    }
    if (entry.answer === null) throw keyInUse(key);
    return entry.answer;
  }

  /** The key is in use until `finish` or `release`. */
  begin(key: string, endpoint: string, fingerprint: string, now: number): void {
    this.#entries.set(key, { endpoint, fingerprint, at: now, answer: null });
  }

  finish(key: string, answer: StoredAnswer): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) entry.answer = answer;
  }

  /** Nothing was executed, so the key can be used again. */
  release(key: string): void {
    this.#entries.delete(key);
  }

  clear(): void {
    this.#entries.clear();
  }
}
