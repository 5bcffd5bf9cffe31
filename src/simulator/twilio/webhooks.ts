// The sending side of the webhooks: status callbacks and inbound texts, signed and posted one by one.
// Protocol: twilio.com/docs/usage/webhooks/webhooks-security; a post without a response is retried once.
import { createHmac, randomUUID } from "node:crypto";
import { shuffled } from "../sendgrid/random.ts";
import type { Account } from "./types.ts";

/** How the webhooks misbehave; each mode is a problem that receivers have had in practice. */
export interface WebhookModes {
  /** Every post is repeated `copies` times, with the same idempotency token. @default none */
  duplicates: "none" | "same";
  /** @default 1 */
  copies: number;
  /** Posts are sent in a seeded random order instead of their own. */
  reorder: boolean;
  /** How many posts run concurrently. @default 1 */
  concurrency: number;
  /** The share of status callbacks that are lost, from 0 to 1. @default 0 */
  lose: number;
  /** Signed with another token: true for every post, a number for that many posts. */
  wrongSignature: boolean | number;
}

export const defaultModes: Readonly<WebhookModes> = {
  duplicates: "none",
  copies: 1,
  reorder: false,
  concurrency: 1,
  lose: 0,
  wrongSignature: false,
};

export interface Post {
  readonly account: Account;
  /** Null: the account's inboundUrl at the time of the post. */
  readonly url: string | null;
  readonly parameters: Readonly<Record<string, string>>;
  readonly token: string;
}

export interface FlushReport {
  /** Posts that the receiver accepted, including repeats. */
  delivered: number;
  /** Posts given up after the last attempt. */
  failed: number;
  /** Attempts, including retries. */
  posts: number;
  /** The HTTP status of each attempt; 0 without a response. */
  statuses: number[];
}

export interface DeliveryOptions {
  readonly retryDelaysMs: readonly number[];
  readonly timeoutMs: number;
}

export class Webhooks {
  modes: WebhookModes = { ...defaultModes };
  #queue: Post[] = [];
  #tail: Promise<unknown> = Promise.resolve();
  readonly #closing = new AbortController();
  readonly #options: DeliveryOptions;
  readonly #random: () => number;

  constructor(options: DeliveryOptions, random: () => number) {
    this.#options = options;
    this.#random = random;
  }

  get queued(): number {
    return this.#queue.length;
  }

  /** Queues a post. The mode `lose` can drop a status callback, but not an inbound text. */
  push(account: Account, url: string | null, parameters: Readonly<Record<string, string>>): void {
    if (url !== null && this.modes.lose > 0 && this.#random() < this.modes.lose) return;
    this.#queue.push({ account, url, parameters, token: randomUUID() });
  }

  clear(): void {
    this.#queue = [];
    this.modes = { ...defaultModes };
  }

  /** Posts everything queued that has a URL. Resolves when it was accepted or given up. Flushes run one after another. */
  flush(): Promise<FlushReport> {
    const report = this.#tail.then(() => this.#flush());
    this.#tail = report.catch(() => undefined);
    return report;
  }

  /** Cancels retries and running posts. Resolves when a running flush has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#tail;
  }

  async #flush(): Promise<FlushReport> {
    const report: FlushReport = { delivered: 0, failed: 0, posts: 0, statuses: [] };
    const waiting = this.#queue.filter(({ account, url }) => url === null && account.inboundUrl === null);
    const ready = this.#queue.filter((post) => !waiting.includes(post));
    this.#queue = waiting;
    const { duplicates, copies, reorder, concurrency } = this.modes;
    const times = duplicates === "none" ? 1 : copies + 1;
    const repeated = Array.from({ length: times }, () => ready).flat();
    const posts = (reorder ? shuffled(repeated, this.#random) : repeated).values();
    const lane = async (): Promise<void> => {
      for (const post of posts) {
        if (this.#closing.signal.aborted) return;
        report[(await this.#deliver(post, report)) ? "delivered" : "failed"] += 1;
      }
    };
    await Promise.all(Array.from({ length: concurrency }, lane));
    return report;
  }

  async #deliver(post: Post, report: FlushReport): Promise<boolean> {
    for (const pause of [...this.#options.retryDelaysMs, null]) {
      const status = await this.#post(post);
      report.posts++;
      report.statuses.push(status);
      if (status >= 200 && status < 300) return true;
      // A rejected post is not retried.
      if (pause === null || (status >= 300 && status < 500) || !(await this.#pause(pause))) return false;
    }
    return false;
  }

  /** The HTTP status of the response; 0 without one. */
  async #post({ account, url, parameters, token }: Post): Promise<number> {
    const target = url ?? account.inboundUrl ?? "";
    const key = this.#spoilSignature() ? "another token" : account.authToken;
    const names = Object.keys(parameters).toSorted();
    const signed = target + names.map((name) => `${name}${parameters[name] ?? ""}`).join("");
    try {
      const response = await fetch(target, {
        method: "POST",
        body: new URLSearchParams(parameters),
        redirect: "manual",
        headers: {
          "User-Agent": "TwilioProxy/1.1",
          "X-Twilio-Signature": createHmac("sha1", key).update(signed).digest("base64"),
          "I-Twilio-Idempotency-Token": token,
        },
        signal: AbortSignal.any([this.#closing.signal, AbortSignal.timeout(this.#options.timeoutMs)]),
      });
      await response.arrayBuffer();
      return response.status;
    } catch {
      return 0;
    }
  }

  #spoilSignature(): boolean {
    const { wrongSignature } = this.modes;
    if (typeof wrongSignature === "boolean") return wrongSignature;
    this.modes.wrongSignature = Math.max(0, wrongSignature - 1);
    return wrongSignature > 0;
  }

  /** False if the simulator was closed during the pause. */
  #pause(ms: number): Promise<boolean> {
    const { signal } = this.#closing;
    if (signal.aborted) return Promise.resolve(false);
    return new Promise((resolve) => {
      const timer = setTimeout(done, ms, true);
      function done(result: boolean): void {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
        resolve(result);
      }
      function stop(): void {
        done(false);
      }
      signal.addEventListener("abort", stop);
    });
  }
}
