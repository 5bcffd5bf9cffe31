// The simulator: one HTTP server, the record of what it accepted, its faults and its webhook.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { EventWebhook, type FlushReport } from "./deliver.ts";
import { EventSource } from "./events.ts";
import { Faults, refusal } from "./faults.ts";
import type { WebhookModes } from "./modes.ts";
import { seededRandom } from "./random.ts";
import { RateLimit } from "./rate-limit.ts";
import { MessageRecord } from "./record.ts";
import { mailSend, type Outcome, refuse } from "./server.ts";
import type { AcceptedMessage, MailSend } from "./types.ts";
import type { SendgridSimulatorOptions, SimulatorStats } from "./options.ts";

/** Serves /_control/ (control.ts). Given by the caller, so that this file does not import its own user. */
export type ControlHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  simulator: SendgridSimulator,
) => Promise<void>;

export class SendgridSimulator implements AsyncDisposable {
  readonly faults: Faults;
  readonly webhook: EventWebhook;
  readonly record: MessageRecord;
  readonly #server: Server;
  readonly #outcomes: Record<Outcome, number> = { accepted: 0, refused: 0, faulted: 0, sandboxed: 0 };
  readonly #waiting = new Set<() => void>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: SendgridSimulatorOptions, control: ControlHandler) {
    const now = options.now ?? Date.now;
    const seed = options.seed ?? 1;
    const source = options.events === false ? null : new EventSource();
    this.faults = new Faults(seededRandom(seed));
    this.record = new MessageRecord(options.keepMessages ?? true);
    this.webhook = new EventWebhook(
      {
        batchEvents: options.batchEvents ?? 1000,
        retryDelaysMs: options.retryDelaysMs ?? [100, 300, 1000],
        timeoutMs: options.timeoutMs ?? 10_000,
      },
      now,
      // A separate generator, so that shuffles do not change which requests a fault applies to.
      seededRandom(seed + 1),
    );
    this.webhook.url = options.webhookUrl ?? null;
    const context = {
      apiKeys: new Set(options.apiKeys ?? ["SG.simulator"]),
      faults: this.faults,
      rateLimit: new RateLimit(options.requestsPerSecond ?? 10_000, now),
      now,
      accept: (mail: MailSend, id: string) => {
        for (const message of this.record.accept(mail, id, now())) {
          if (source !== null) this.webhook.push(source.eventsOf(message));
        }
      },
      count: (outcome: Outcome) => {
        this.#outcomes[outcome]++;
        for (const look of this.#waiting) look();
      },
    };
    this.#server = createServer((request, response) => {
      const path = (request.url ?? "/").split("?")[0] ?? "/";
      if (path === "/v3/mail/send") void mailSend(request, response, context);
      else if (path.startsWith("/_control/")) void control(request, response, this);
      else notFound(request, response);
    });
    // Idle connections stay open: closing one just as the client reuses it would be an unwanted reset.
    this.#server.keepAliveTimeout = 0;
    const { flushMs } = options;
    if (typeof flushMs === "number") {
      this.#timer = setInterval(() => void this.flushEvents(), flushMs).unref();
    }
  }

  /** Resolves when the server listens, on the loopback interface only. */
  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
  }

  /** The base URL without a trailing slash: SENDGRID_BASE_URL. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Base64 SPKI DER: SENDGRID_WEBHOOK_PUBLIC_KEY. New at each start. */
  get publicKey(): string {
    return this.webhook.publicKey;
  }

  get messages(): readonly AcceptedMessage[] {
    return this.record.messages;
  }

  get stats(): SimulatorStats {
    const { accepted, refused, faulted, sandboxed } = this.#outcomes;
    return {
      requests: accepted + refused + faulted + sandboxed,
      ...this.#outcomes,
      messages: this.record.total,
      rows: this.record.rows,
      queuedEvents: this.webhook.queued,
    };
  }

  /** How many times a message with this value of the custom argument bo_msg was accepted. */
  acceptedCount(rowId: string): number {
    return this.record.acceptedCount(rowId);
  }

  /** Rows accepted more than once. */
  duplicates(): { rowId: string; count: number }[] {
    return this.record.duplicates();
  }

  /** Sets the webhook's URL and, if given, its modes; the other modes do not change. */
  setWebhook(url: string | null, modes: Partial<WebhookModes> = {}): void {
    this.webhook.url = url;
    this.setModes(modes);
  }

  setModes(modes: Partial<WebhookModes>): void {
    this.webhook.modes = { ...this.webhook.modes, ...modes };
  }

  /** Posts the queued events. Resolves when they were accepted or given up. */
  flushEvents(): Promise<FlushReport> {
    return this.webhook.flush();
  }

  /** Resolves when the condition is true; checked after every request. Rejects after `timeoutMs`. */
  waitFor(condition: (stats: SimulatorStats) => boolean, timeoutMs = 10_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        if (condition(this.stats)) finish(resolve);
      };
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        settle();
      };
      const timer = setTimeout(() => {
        finish(() =>
          reject(new Error(`The condition was not met within ${timeoutMs} ms: ${JSON.stringify(this.stats)}`)),
        );
      }, timeoutMs);
      this.#waiting.add(look);
      look();
    });
  }

  /** Removes messages, counts, faults, queued events and modes. Keeps the webhook's URL and key. */
  reset(): void {
    this.record.clear();
    this.faults.clear();
    this.webhook.clear();
    Object.assign(this.#outcomes, { accepted: 0, refused: 0, faulted: 0, sandboxed: 0 });
  }

  /** Drops connections, queued events and running requests. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.webhook.close();
    await new Promise((resolve) => {
      this.#server.close(resolve);
      this.#server.closeAllConnections();
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function notFound(request: IncomingMessage, response: ServerResponse): void {
  request.resume();
  refuse(response, refusal(404, "not found"));
}
