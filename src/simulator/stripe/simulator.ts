// The simulator itself: one HTTP server, the accounts behind it, their clock, faults and webhooks.
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { seededRandom } from "../sendgrid/random.ts";
import { Account, type World } from "./account.ts";
import { Clock } from "./clock.ts";
import { Faults } from "./faults.ts";
import type { Outcome, SimulatorStats, StripeSimulatorOptions } from "./options.ts";
import { People } from "./people.ts";
import { api } from "./server.ts";
import type { Item, Metadata, Objects, StripeEvent } from "./types.ts";
import { type FlushReport, WebhookSender } from "./webhook/deliver.ts";
import { wanted, type WebhookModes } from "./webhook/modes.ts";

/** Serves a request that needs the whole simulator. */
export type Handler = (request: IncomingMessage, response: ServerResponse, simulator: StripeSimulator) => Promise<void>;

/** Given by the caller, so that this file does not import its own users. */
export interface Handlers {
  /** Paths below /_control/ (control.ts). */
  readonly control: Handler;
  /** Paths below /pay/ (page.ts). */
  readonly page: Handler;
}

/** Another account than the one that is there from the start: a tenant's own. */
export interface OwnAccount {
  readonly secretKey: string;
  readonly webhookSecret: string;
  setWebhook(url: string | null): void;
}

export class StripeSimulator extends People implements AsyncDisposable {
  readonly faults: Faults;
  readonly clock: Clock;
  readonly sender: WebhookSender;
  readonly #main: Account;
  readonly #accounts: Map<string, Account>;
  readonly #world: World;
  readonly #server: Server;
  readonly #handlers: Handlers;
  readonly #outcomes: Record<Outcome, number> = { accepted: 0, replayed: 0, refused: 0, faulted: 0 };
  readonly #waiting = new Set<() => void>();
  #timer: NodeJS.Timeout | null = null;

  constructor(options: StripeSimulatorOptions, handlers: Handlers) {
    const accounts = new Map<string, Account>();
    const clock = new Clock(options.now ?? Date.now);
    super(accounts, clock);
    const seed = options.seed ?? 1;
    const { retryDelaysMs = [100, 300, 1000], timeoutMs = 10_000 } = options;
    this.clock = clock;
    this.#handlers = handlers;
    this.faults = new Faults(seededRandom(seed));
    // Its own generator: a shuffle must not change which requests a fault strikes.
    this.sender = new WebhookSender({ retryDelaysMs, timeoutMs }, clock, seededRandom(seed + 1));
    this.#accounts = accounts;
    this.#world = { clock, sender: this.sender, url: () => this.url };
    this.#main = this.#newAccount(options.secretKey ?? "sk_test_simulator");
    if (options.webhookUrl !== undefined) this.setWebhook(options.webhookUrl);
    this.#server = createServer((request, response) => void this.#serve(request, response));
    // An idle connection stays open: closing it just as the client reuses it would be a reset nobody asked for.
    this.#server.keepAliveTimeout = 0;
    if (typeof options.flushMs === "number") {
      this.#timer = setInterval(() => void this.flushEvents(), options.flushMs).unref();
    }
  }

  /** Resolves once it listens, on the loopback interface only. */
  listen(port: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#server.once("error", reject);
      this.#server.listen(port, "127.0.0.1", () => {
        this.#server.off("error", reject);
        resolve();
      });
    });
  }

  /** The base URL, without a slash at the end: STRIPE_BASE_URL. Links lead to it as well. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** STRIPE_SECRET_KEY. */
  get secretKey(): string {
    return this.#main.secretKey;
  }

  /** STRIPE_WEBHOOK_SECRET. A new one each start. */
  get webhookSecret(): string {
    return this.#main.webhookSecret;
  }

  get stats(): SimulatorStats {
    const { accepted, replayed, refused, faulted } = this.#outcomes;
    const charges = this.#all("charge");
    return {
      requests: accepted + replayed + refused + faulted,
      ...this.#outcomes,
      links: this.#all("payment_link").length,
      payments: charges.filter(({ status }) => status === "succeeded").length,
      events: this.#all("event").length,
      queuedEvents: this.sender.queued,
    };
  }

  /** A tenant's own account. Its key opens nothing of the others', and its events are signed with its own secret. */
  addAccount(secretKey: string): OwnAccount {
    if (this.#accounts.has(secretKey)) throw new Error(`There is an account with the key ${secretKey} already`);
    return this.#newAccount(secretKey);
  }

  /** Sets where events of the first account go and, where given, how all of them misbehave. */
  setWebhook(url: string | null, modes: Partial<WebhookModes> = {}): void {
    this.#main.setWebhook(url);
    this.setModes(modes);
  }

  /** Modes not named stay as they are. */
  setModes(modes: Partial<WebhookModes>): void {
    this.sender.modes = { ...this.sender.modes, ...modes };
  }

  /** Does what fell due, and delivers the events queued by now; resolves when receivers have them, or they were given up. */
  async flushEvents(): Promise<FlushReport> {
    this.clock.catchUp();
    const report = await this.sender.flush();
    this.#look();
    return report;
  }

  /** Moves the simulator's clock on: renewals, retries, delayed payments and expiries on the way happen. */
  advance(ms: number): void {
    this.clock.advance(ms);
  }

  /** The links whose metadata holds all of this, of every account, newest first. */
  links(metadata: Metadata = {}): Objects["payment_link"][] {
    const pairs = Object.entries(metadata);
    return this.#all("payment_link").filter((link) => pairs.every(([name, value]) => link.metadata[name] === value));
  }

  /** What a link sells. */
  linesOf(link: string): readonly Item[] {
    return [...this.#accounts.values()].flatMap((account) => account.items.get(link) ?? []);
  }

  /** The events of a type (`*` stands for any text), of every account, newest first. */
  events(type = "*"): StripeEvent[] {
    return this.#all("event").filter((event) => wanted(event.type, [type]));
  }

  /** Resolves as soon as the numbers satisfy the condition; looked at after every request and flush. */
  waitFor(condition: (stats: SimulatorStats) => boolean, timeoutMs = 10_000): Promise<void> {
    return new Promise((resolve, reject) => {
      const finish = (settle: () => void): void => {
        clearTimeout(timer);
        this.#waiting.delete(look);
        settle();
      };
      const look = (): void => {
        if (condition(this.stats)) finish(resolve);
      };
      const timer = setTimeout(() => {
        finish(() =>
          reject(new Error(`Not so within ${timeoutMs} ms; the simulator counts ${JSON.stringify(this.stats)}`)),
        );
      }, timeoutMs);
      this.#waiting.add(look);
      look();
    });
  }

  /** As freshly started: no objects, counts, faults, queued events, modes. Accounts, their secrets and webhooks stay. */
  reset(): void {
    this.clock.clear();
    this.faults.clear();
    this.sender.clear();
    for (const account of this.#accounts.values()) account.clear();
    Object.assign(this.#outcomes, { accepted: 0, replayed: 0, refused: 0, faulted: 0 });
  }

  /** Drops connections, queued events and requests under way. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearInterval(this.#timer);
    await this.sender.close();
    await new Promise((resolve) => {
      this.#server.close(resolve);
      this.#server.closeAllConnections();
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = (request.url ?? "/").split("?")[0] ?? "/";
    if (path.startsWith("/_control/")) await this.#handlers.control(request, response, this);
    else if (path.startsWith("/pay/")) await this.#handlers.page(request, response, this);
    else {
      await api(request, response, {
        faults: this.faults,
        account: (key) => this.#accounts.get(key) ?? null,
        count: (outcome) => {
          this.#outcomes[outcome]++;
        },
      });
    }
    this.#look();
  }

  #newAccount(secretKey: string): Account {
    const account = new Account(secretKey, this.#world);
    this.#accounts.set(secretKey, account);
    return account;
  }

  #all<K extends keyof Objects>(kind: K): Objects[K][] {
    return [...this.#accounts.values()].flatMap((account) => account.store.all(kind));
  }

  #look(): void {
    for (const look of this.#waiting) look();
  }
}
