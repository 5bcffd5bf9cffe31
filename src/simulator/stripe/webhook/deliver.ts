// The sending side of webhooks: one event per POST, signed for each endpoint, retried until it is accepted.
// Protocol: docs.stripe.com/webhooks; every response but 2xx is retried, redirects are not followed.
import { createHmac } from "node:crypto";
import type { Clock } from "../clock.ts";
import { newId } from "../ids.ts";
import { type Delivery, defaultModes, applyModes, notEvents, type WebhookModes } from "./modes.ts";

export interface DeliveryOptions {
  /** Pauses between the attempts at one delivery; their number is the number of retries. */
  retryDelaysMs: readonly number[];
  /** Timeout for a receiver. */
  timeoutMs: number;
}

export interface FlushReport {
  /** Deliveries that the receiver accepted, including repeats. */
  delivered: number;
  /** Deliveries given up after the last retry. */
  failed: number;
  /** POSTs, including retries and those of the mode `malformed`. */
  posts: number;
  /** The HTTP status of each POST; 0 without a response. */
  statuses: number[];
}

export class WebhookSender {
  modes: WebhookModes = { ...defaultModes };
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
    this.modes = { ...defaultModes };
  }

  /** Posts everything queued so far. Resolves when it was accepted or given up. Flushes run one after another. */
  flush(): Promise<FlushReport> {
    const report = this.#tail.then(() => this.#flush());
    this.#tail = report.catch(() => undefined);
    return report;
  }

  /** Cancels retries and running requests. Resolves when a running flush has ended. */
  async close(): Promise<void> {
    this.#closing.abort();
    await this.#tail;
  }

  async #flush(): Promise<FlushReport> {
    const report: FlushReport = { delivered: 0, failed: 0, posts: 0, statuses: [] };
    if (this.#closing.signal.aborted) return report;
    const { leaving, held } = applyModes(this.#queue, this.modes, this.#random);
    this.#queue = held;
    if (this.modes.malformed) await this.#postMalformed(leaving, report);
    const waiting = leaving.values();
    const lane = async (): Promise<void> => {
      for (const delivery of waiting) await this.#deliver(delivery, report);
    };
    // All lanes take from one iterator, so each delivery is made by exactly one lane.
    await Promise.all(Array.from({ length: this.modes.concurrent }, lane));
    return report;
  }

  async #postMalformed(leaving: readonly Delivery[], report: FlushReport): Promise<void> {
    const body = notEvents[this.#flushes++ % notEvents.length] ?? "null";
    const endpoints = new Map(leaving.map(({ url, secret }) => [`${url} ${secret}`, { url, secret }]));
    for (const { url, secret } of endpoints.values()) count(report, await this.#post(url, secret, body));
  }

  async #deliver({ event, url, secret }: Delivery, report: FlushReport): Promise<void> {
    // Two spaces of indentation, as at Stripe: a receiver that re-serializes the body can't verify the signature.
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

  /** The HTTP status of the response; 0 without one. Each retry has a new signature and timestamp. */
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

/** v0 is the additional signature of test mode; receivers must ignore it. */
function signatureOf(body: string, secret: string, time: number): string {
  const hmac = (key: string): string => createHmac("sha256", key).update(`${time}.${body}`).digest("hex");
  return `t=${time},v1=${hmac(secret)},v0=${hmac("v0")}`;
}

function count(report: FlushReport, status: number): void {
  report.posts++;
  report.statuses.push(status);
}
