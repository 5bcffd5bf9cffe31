// The sending side of the event webhook: batches, signatures, retries.
// Protocol: twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features;
// posts of up to 768 KB, every response but 2xx is retried at growing intervals, redirects are not followed.
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { defaultModes, applyModes, type WebhookModes, withMalformed } from "./modes.ts";
import type { SendgridEvent } from "./types.ts";

const maxBatchBytes = 768 * 1024;

export interface DeliveryOptions {
  /** Maximum number of events per POST. @default 1000 */
  batchEvents: number;
  /** Pauses between the attempts at one batch; their number is the number of retries. @default 100, 300, 1000 */
  retryDelaysMs: readonly number[];
  /** Timeout for a receiver. @default 10 s */
  timeoutMs: number;
}

export interface FlushReport {
  /** Events that the receiver accepted, including repeats and malformed ones. */
  delivered: number;
  /** Events given up after the last retry. */
  failed: number;
  /** POSTs, including retries. */
  posts: number;
  /** The HTTP status of each POST; 0 without a response. */
  statuses: number[];
}

export class EventWebhook {
  /** URL of the receiver. While it is null, events wait. */
  url: string | null = null;
  modes: WebhookModes = { ...defaultModes };
  /** Base64 SPKI DER, the format of SendGrid's settings page and API. */
  readonly publicKey: string;
  #queue: SendgridEvent[] = [];
  #batches = 0;
  #tail: Promise<unknown> = Promise.resolve();
  readonly #key: KeyObject;
  readonly #strangerKey: KeyObject;
  readonly #closing = new AbortController();
  readonly #options: DeliveryOptions;
  readonly #now: () => number;
  readonly #random: () => number;

  constructor(options: DeliveryOptions, now: () => number, random: () => number) {
    const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.publicKey = pair.publicKey.export({ type: "spki", format: "der" }).toString("base64");
    this.#key = pair.privateKey;
    this.#strangerKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    this.#options = options;
    this.#now = now;
    this.#random = random;
  }

  get queued(): number {
    return this.#queue.length;
  }

  push(events: readonly SendgridEvent[]): void {
    for (const event of events) this.#queue.push(event);
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
    if (this.url === null || this.#closing.signal.aborted) return report;
    const events = applyModes(this.#queue, this.modes, this.#random);
    this.#queue = [];
    for (const batch of this.#split(events)) {
      const content = this.modes.malformed ? withMalformed(batch, this.#batches) : batch;
      this.#batches++;
      const taken = await this.#deliver(this.url, content, report);
      report[taken ? "delivered" : "failed"] += content.length;
    }
    return report;
  }

  *#split(events: readonly SendgridEvent[]): Generator<SendgridEvent[]> {
    let batch: SendgridEvent[] = [];
    let bytes = 0;
    for (const event of events) {
      const size = Buffer.byteLength(JSON.stringify(event)) + 1;
      if (batch.length >= this.#options.batchEvents || (batch.length > 0 && bytes + size > maxBatchBytes)) {
        yield batch;
        batch = [];
        bytes = 0;
      }
      batch.push(event);
      bytes += size;
    }
    if (batch.length > 0) yield batch;
  }

  async #deliver(url: string, batch: readonly unknown[], report: FlushReport): Promise<boolean> {
    // The CRLF is part of the signed bytes: a receiver that trims the body can't verify the signature.
    const body = Buffer.from(`${JSON.stringify(batch)}\r\n`);
    for (const pause of [...this.#options.retryDelaysMs, null]) {
      const status = await this.#post(url, body);
      report.posts++;
      report.statuses.push(status);
      if (status >= 200 && status < 300) return true;
      if (pause === null || !(await this.#pause(pause))) return false;
    }
    return false;
  }

  /** The HTTP status of the response; 0 without one. Each retry has a new signature and timestamp. */
  async #post(url: string, body: Buffer): Promise<number> {
    const timestamp = String(Math.floor(this.#now() / 1000) - this.modes.oldTimestampSeconds);
    const key = this.#spoilSignature() ? this.#strangerKey : this.#key;
    const signature = sign("sha256", Buffer.concat([Buffer.from(timestamp), body]), key).toString("base64");
    try {
      const response = await fetch(url, {
        method: "POST",
        body: new Uint8Array(body),
        redirect: "manual",
        headers: {
          "Content-Type": "application/json",
          "User-Agent": "SendGrid Event API",
          "X-Twilio-Email-Event-Webhook-Signature": signature,
          "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
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
