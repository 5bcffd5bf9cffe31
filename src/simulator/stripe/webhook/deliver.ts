// The sending side of webhooks: one event per POST, signed for each endpoint, tried again until it is taken.
// Protocol: docs.stripe.com/webhooks; every answer but 2xx is tried again, redirects are not followed.
import { createHmac } from "node:crypto";
import type { Clock } from "../clock.ts";
import { newId } from "../ids.ts";
import { type Delivery, goodConduct, misbehave, notEvents, type WebhookModes } from "./modes.ts";

export interface DeliveryOptions {
  /** Pauses between the attempts at one delivery; their number is the number of retries. */
  retryDelaysMs: readonly number[];
  /** How long a receiver may take to answer. */
  timeoutMs: number;
}

export interface FlushReport {
  /** Deliveries that the receiver took, repeats counted. */
  delivered: number;
  /** Deliveries given up after the last retry. */
  failed: number;
  /** POSTs made, retries and those of the mode `malformed` counted. */
  posts: number;
  /** The status of each POST; 0 where no answer came. */
  statuses: number[];
}

export class WebhookSender {
  modes: WebhookModes = { ...goodConduct };
  #queue: Delivery[] = [];
  #flushes = 0;
  #tail: Promise<unknown> = Promise.resolve();
  readonly #strangersSecret = newId("webhook_secret");
  readonly #closing = new AbortController();
  readonly #options: DeliveryOptions;
  readonly #clock: Clock;
  readonly #random: () => number;

  constructor(options: DeliveryOptions, clock: Clock, random: () => number) {
    this.#options = options;
    this.#clock = clock;
    this.#random = random;
  }

  get queued(): number {
    return this.#queue.length;
  }

  push(delivery: Delivery): void {
    this.#queue.push(delivery);
  }

  clear(): void {
    this.#queue = [];
    this.modes = { ...goodConduct };
  }

  /** Delivers what is queued by now; resolves when receivers have taken it, or it was given up. One flush at a time. */
  flush(): Promise<FlushReport> {
    const report = this.#tail.then(() => this.#flush());
    this.#tail = report.catch(() => undefined);
    return report;
  }

  /** Stops retries and requests under way; resolves when a flush under way has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#tail;
  }

  async #flush(): Promise<FlushReport> {
    const report: FlushReport = { delivered: 0, failed: 0, posts: 0, statuses: [] };
    if (this.#closing.signal.aborted) return report;
    const { leaving, held } = misbehave(this.#queue, this.modes, this.#random);
    this.#queue = held;
    if (this.modes.malformed) await this.#postMalformed(leaving, report);
    const waiting = leaving.values();
    const lane = async (): Promise<void> => {
      for (const delivery of waiting) await this.#deliver(delivery, report);
    };
    // Lanes take from one iterator, so each delivery is made by one of them.
    await Promise.all(Array.from({ length: this.modes.concurrent }, lane));
    return report;
  }

  async #postMalformed(leaving: readonly Delivery[], report: FlushReport): Promise<void> {
    const body = notEvents[this.#flushes++ % notEvents.length] ?? "null";
    const endpoints = new Map(leaving.map(({ url, secret }) => [`${url} ${secret}`, { url, secret }]));
    for (const { url, secret } of endpoints.values()) count(report, await this.#post(url, secret, body));
  }

  async #deliver({ event, url, secret }: Delivery, report: FlushReport): Promise<void> {
    // Two spaces, as Stripe's: a receiver that parses and writes the body anew can't verify it.
    const body = JSON.stringify(event, null, 2);
    for (const pause of [...this.#options.retryDelaysMs, null]) {
      const status = await this.#post(url, secret, body);
      count(report, status);
      if (status >= 200 && status < 300) {
        event.pending_webhooks = Math.max(0, event.pending_webhooks - 1);
        report.delivered++;
        return;
      }
      if (pause === null || !(await this.#pause(pause))) break;
    }
    report.failed++;
  }

  /** The status of the answer, 0 for none. A retry is signed anew, with a fresh timestamp. */
  async #post(url: string, secret: string, body: string): Promise<number> {
    const time = this.#clock.wall - this.modes.oldTimestampSeconds;
    const key = this.#spoilSignature() ? this.#strangersSecret : secret;
    try {
      const response = await fetch(url, {
        method: "POST",
        body,
        redirect: "manual",
        headers: {
          "Content-Type": "application/json; charset=utf-8",
          "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
          "Stripe-Signature": signatureOf(body, key, time),
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

  /** False when the simulator closed meanwhile. */
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

/** v0 comes along in test mode and proves nothing. */
function signatureOf(body: string, secret: string, time: number): string {
  const hmac = (key: string): string => createHmac("sha256", key).update(`${time}.${body}`).digest("hex");
  return `t=${time},v1=${hmac(secret)},v0=${hmac("v0")}`;
}

function count(report: FlushReport, status: number): void {
  report.posts++;
  report.statuses.push(status);
}
