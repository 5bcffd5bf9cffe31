// The rate limit: a number of requests per second and account, then 429.
export class Rate {
  readonly #limit: number;
  readonly #now: () => number;
  readonly #used = new Map<string, { second: number; requests: number }>();

  constructor(limit: number, now: () => number) {
    this.#limit = limit;
    this.#now = now;
  }

  /** Counts a request. False if it exceeds the limit of this second. */
  take(account: string): boolean {
    const second = Math.floor(this.#now() / 1000);
    const used = this.#used.get(account);
    const requests = used?.second === second ? used.requests + 1 : 1;
    this.#used.set(account, { second, requests });
    return requests <= this.#limit;
  }
}
