// The X-RateLimit headers, and the 429 behind them. mail/send takes 10,000 requests a second (SendGrid's FAQ).
import type { ServerResponse } from "node:http";

export class RateLimit {
  readonly #limit: number;
  readonly #now: () => number;
  #second = 0;
  #used = 0;

  constructor(limit: number, now: () => number) {
    this.#limit = limit;
    this.#now = now;
  }

  /** Counts a request and writes its headers; false when it is one too many for this second. */
  take(response: ServerResponse): boolean {
    const second = Math.floor(this.#now() / 1000);
    if (second !== this.#second) {
      this.#second = second;
      this.#used = 0;
    }
    this.#used++;
    this.#write(response, Math.max(0, this.#limit - this.#used), second + 1);
    return this.#used <= this.#limit;
  }

  /** The headers of a 429 that was asked for: nothing remains until then (Unix seconds). */
  announceReset(response: ServerResponse, inSeconds: number): void {
    this.#write(response, 0, Math.ceil(this.#now() / 1000) + inSeconds);
  }

  #write(response: ServerResponse, remaining: number, reset: number): void {
    response.setHeader("X-RateLimit-Limit", this.#limit);
    response.setHeader("X-RateLimit-Remaining", remaining);
    response.setHeader("X-RateLimit-Reset", reset);
  }
}
