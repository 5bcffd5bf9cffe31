// The sending side of the event webhook: batches, signatures, retries.
// Protocol: twilio.com/docs/sendgrid/for-developers/tracking-events/getting-started-event-webhook-security-features;
// posts of up to 768 KB, every answer but 2xx tried again at growing intervals, redirects not followed.
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { goodConduct, misbehave, type WebhookModes, withMalformed } from "./modes.ts";
import type { SendgridEvent } from "./types.ts";

const maxBatchBytes = 768 * 1024;

export interface DeliveryOptions {
  /** Events per POST at most. @default 1000 */
  batchEvents: number;
  /** Pauses between the attempts at one batch; their number is the number of retries. @default 100, 300, 1000 */
  retryDelaysMs: readonly number[];
  /** How long a receiver may take to answer. @default 10 s */
  timeoutMs: number;
}

export interface FlushReport {
  /** Events that the receiver took, repeats and malformed ones counted. */
  delivered: number;
  /** Events given up after the last retry. */
  failed: number;
  /** POSTs made, retries counted. */
  posts: number;
  /** The status of each POST; 0 where no answer came. */
  statuses: number[];
}

export class EventWebhook {
  /** Where events go. While it is null they wait. */
  url: string | null = null;
  modes: WebhookModes = { ...goodConduct };
  /** Base64 SPKI DER, as SendGrid's settings page and API give it. */
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
    this.modes = { ...goodConduct };
  }

  /** Delivers what is queued by now; resolves when the receiver has taken it, or it was given up. One flush at a time. */
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
    if (this.url === null || this.#closing.signal.aborted) return report;
    const events = misbehave(this.#queue, this.modes, this.#random);
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
    // The CRLF belongs to the signed bytes: a receiver that trims the body can't verify it.
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

  /** The status of the answer, 0 for none. A retry is signed anew, with a fresh timestamp. */
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
