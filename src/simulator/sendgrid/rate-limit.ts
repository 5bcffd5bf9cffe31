// The X-RateLimit headers, and the rate limit itself: 10,000 requests per second for mail/send (SendGrid's FAQ).
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

  /** Counts a request and sets its headers. False if it exceeds the limit of this second. */
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

  /** Sets the headers of a 429 that was requested as a fault: nothing remains until the reset (Unix seconds). */
  announceReset(response: ServerResponse, inSeconds: number): void {
    this.#write(response, 0, Math.ceil(this.#now() / 1000) + inSeconds);
  }

  #write(response: ServerResponse, remaining: number, reset: number): void {
    response.setHeader("X-RateLimit-Limit", this.#limit);
    response.setHeader("X-RateLimit-Remaining", remaining);
    response.setHeader("X-RateLimit-Reset", reset);
  }
}
