// The simulator: one HTTP server, its accounts, the record of their messages, its faults and its webhooks.
import { randomBytes } from "node:crypto";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { seededRandom } from "../sendgrid/random.ts";
import { Exchange, type Inbound } from "./exchange.ts";
import { Faults } from "./faults.ts";
import type { SimulatorStats, TwilioSimulatorOptions } from "./options.ts";
import { Rate } from "./rate.ts";
import { MessageRecord } from "./record.ts";
import { serveApi, type Outcome } from "./server.ts";
import type { Account, Fate, Message } from "./types.ts";
import { Webhooks, type FlushReport, type WebhookModes } from "./webhooks.ts";

/** Serves /_control/ (control.ts). Given by the caller, so that this file does not import its own user. */
export type ControlHandler = (
  request: IncomingMessage,
  response: ServerResponse,
  simulator: TwilioSimulator,
) => Promise<void>;

export interface AddedAccount extends Account {
  setWebhook(url: string | null): void;
}

export class TwilioSimulator implements AsyncDisposable {
  readonly faults: Faults;
  readonly webhooks: Webhooks;
  readonly record = new MessageRecord();
  readonly #accounts = new Map<string, Account>();
  readonly #first: Account;
  readonly #exchange: Exchange;
  readonly #server: Server;
  readonly #counts = { accepted: 0, refused: 0, faulted: 0, lists: 0 };
  readonly #waiting = new Set<() => void>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: TwilioSimulatorOptions, control: ControlHandler) {
    const { now = Date.now, seed = 1, flushMs = null } = options;
    this.faults = new Faults(seededRandom(seed));
    // A separate generator, so that shuffles do not change which requests a fault applies to.
    const { retryDelaysMs = [100], timeoutMs = 15_000 } = options;
    this.webhooks = new Webhooks({ retryDelaysMs, timeoutMs }, seededRandom(seed + 1));
    this.#exchange = new Exchange(this.record, this.webhooks, now, options.advancedOptOut ?? false);
    this.#first = {
      accountSid: options.accountSid ?? `AC${"0".repeat(31)}1`,
      authToken: options.authToken ?? "token-of-the-simulator",
      from: options.from ?? "+15005550006",
      inboundUrl: options.webhookUrl ?? null,
    };
    this.#accounts.set(this.#first.accountSid, this.#first);
    const rate = new Rate(options.requestsPerSecond ?? 1000, now);
    const context = {
      accounts: this.#accounts,
      faults: this.faults,
      takeRate: ({ accountSid }: Account) => rate.take(accountSid),
      refusalOf: this.#exchange.refusalOf.bind(this.#exchange),
      accept: this.#exchange.accept.bind(this.#exchange),
      messages: this.record.all,
      find: ({ accountSid }: Account, sid: string) => this.record.find(accountSid, sid),
      count: (what: Outcome | "lists") => {
        this.#counts[what]++;
        for (const look of this.#waiting) look();
      },
    };
    this.#server = createServer((request, response) => {
      if (request.url?.startsWith("/_control/") === true) void control(request, response, this);
      else void serveApi(request, response, context);
    });
    // Idle connections stay open: closing one just as the client reuses it would be an unwanted reset.
    this.#server.keepAliveTimeout = 0;
    if (flushMs !== null) this.#timer = setInterval(() => void this.flushEvents(), flushMs).unref();
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

  /** The base URL without a trailing slash: TWILIO_BASE_URL. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** TWILIO_ACCOUNT_SID. */
  get accountSid(): string {
    return this.#first.accountSid;
  }

  /** TWILIO_AUTH_TOKEN; also the key of the webhooks' signatures. */
  get authToken(): string {
    return this.#first.authToken;
  }

  /** TWILIO_FROM. */
  get from(): string {
    return this.#first.from;
  }

  /** Adds a tenant's account. */
  addAccount(from: string): AddedAccount {
    const account = {
      accountSid: `AC${randomBytes(16).toString("hex")}`,
      authToken: randomBytes(16).toString("hex"),
      from,
      inboundUrl: null as string | null,
      setWebhook: (url: string | null): void => void (account.inboundUrl = url),
    };
    this.#accounts.set(account.accountSid, account);
    return account;
  }

  /** Texts that were sent through the API, in all accounts. */
  get messages(): readonly Message[] {
    return this.record.sent;
  }

  /** The fates of texts to single numbers; can be edited. */
  get fates(): Map<string, Fate> {
    return this.#exchange.fates;
  }

  get stats(): SimulatorStats {
    const { accepted, refused, faulted, lists } = this.#counts;
    return {
      requests: accepted + refused + faulted,
      accepted,
      refused,
      faulted,
      lists,
      messages: this.record.sentCount,
      rows: this.record.rows,
      inbound: this.record.inboundCount,
      queuedEvents: this.webhooks.queued,
    };
  }

  /** How many times a text with this row in its callback URL was accepted. */
  acceptedCount(rowId: string): number {
    return this.record.acceptedCount(rowId);
  }

  /** Rows accepted more than once. */
  duplicates(): { rowId: string; count: number }[] {
    return this.record.duplicates();
  }

  /** A person writes to us. `to` defaults to the account's number, `account` to the first account. */
  receive(text: { from: string; to?: string; body: string; account?: string }): Inbound {
    const account = this.#accounts.get(text.account ?? this.accountSid);
    if (account === undefined) throw new Error(`Account ${text.account} does not exist; addAccount creates one.`);
    return this.#exchange.receive(account, text.from, text.to ?? account.from, text.body);
  }

  /** Sets the URL for inbound texts and, if given, the webhooks' modes; the other modes do not change. */
  setWebhook(url: string | null, modes: Partial<WebhookModes> = {}): void {
    this.#first.inboundUrl = url;
    this.setModes(modes);
  }

  get webhookUrl(): string | null {
    return this.#first.inboundUrl;
  }

  setModes(modes: Partial<WebhookModes>): void {
    this.webhooks.modes = { ...this.webhooks.modes, ...modes };
  }

  /** Posts the queued events. Resolves when they were accepted or given up. */
  flushEvents(): Promise<FlushReport> {
    return this.webhooks.flush();
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

  /** Removes messages, opt-outs, fates, counts, faults, queued posts and modes. Keeps accounts and URLs. */
  reset(): void {
    this.record.clear();
    this.faults.clear();
    this.fates.clear();
    this.webhooks.clear();
    Object.assign(this.#counts, { accepted: 0, refused: 0, faulted: 0, lists: 0 });
  }

  /** Drops connections, queued posts and running requests. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.webhooks.close();
    await new Promise((resolve) => {
      this.#server.close(resolve);
      this.#server.closeAllConnections();
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
