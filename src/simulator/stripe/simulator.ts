// The simulator: one HTTP server, its accounts, their clock, faults and webhooks.
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
import { matches, type WebhookModes } from "./webhook/modes.ts";

/** Serves a request that needs the whole simulator. */
export type Handler = (request: IncomingMessage, response: ServerResponse, simulator: StripeSimulator) => Promise<void>;

/** Given by the caller, so that this file does not import its own users. */
export interface Handlers {
  /** Paths below /_control/ (control.ts). */
  readonly control: Handler;
  /** Paths below /pay/ (page.ts). */
  readonly page: Handler;
}

/** An account besides the first one: a tenant's. */
export interface AddedAccount {
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
    // A separate generator, so that shuffles do not change which requests a fault applies to.
    this.sender = new WebhookSender({ retryDelaysMs, timeoutMs }, clock, seededRandom(seed + 1));
    this.#accounts = accounts;
    this.#world = { clock, sender: this.sender, url: () => this.url };
    this.#main = this.#newAccount(options.secretKey ?? "sk_test_simulator");
    if (options.webhookUrl !== undefined) this.setWebhook(options.webhookUrl);
    this.#server = createServer((request, response) => void this.#serve(request, response));
    // Idle connections stay open: closing one just as the client reuses it would be an unwanted reset.
    this.#server.keepAliveTimeout = 0;
    if (typeof options.flushMs === "number") {
      this.#timer = setInterval(() => void this.flushEvents(), options.flushMs).unref();
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

  /** The base URL without a trailing slash: STRIPE_BASE_URL. URLs of payment links begin with it, too. */
  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** STRIPE_SECRET_KEY. */
  get secretKey(): string {
    return this.#main.secretKey;
  }

  /** STRIPE_WEBHOOK_SECRET. New at each start. */
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

  /** Adds a tenant's account, which cannot access the others; its events are signed with its own secret. */
  addAccount(secretKey: string): AddedAccount {
    if (this.#accounts.has(secretKey)) throw new Error(`An account with the key ${secretKey} already exists`);
    return this.#newAccount(secretKey);
  }

  /** Sets the URL for the first account's events and, if given, the modes of all webhooks. */
  setWebhook(url: string | null, modes: Partial<WebhookModes> = {}): void {
    this.#main.setWebhook(url);
    this.setModes(modes);
  }

  /** Sets modes; the others do not change. */
  setModes(modes: Partial<WebhookModes>): void {
    this.sender.modes = { ...this.sender.modes, ...modes };
  }

  /** Runs due actions and posts the queued events. Resolves when they were accepted or given up. */
  async flushEvents(): Promise<FlushReport> {
    this.clock.catchUp();
    const report = await this.sender.flush();
    this.#look();
    return report;
  }

  /** Moves the simulator's clock forward and runs renewals, retries, delayed payments and expiries that become due. */
  advance(ms: number): void {
    this.clock.advance(ms);
  }

  /** The links whose metadata contains all these pairs, in all accounts, newest first. */
  links(metadata: Metadata = {}): Objects["payment_link"][] {
    const pairs = Object.entries(metadata);
    return this.#all("payment_link").filter((link) => pairs.every(([name, value]) => link.metadata[name] === value));
  }

  /** The line items of a link. */
  linesOf(link: string): readonly Item[] {
    return [...this.#accounts.values()].flatMap((account) => account.items.get(link) ?? []);
  }

  /** The events of a type (`*` matches any text), in all accounts, newest first. */
  events(type = "*"): StripeEvent[] {
    return this.#all("event").filter((event) => matches(event.type, [type]));
  }

  /** Resolves when the condition is true; checked after every request and flush. Rejects after `timeoutMs`. */
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
          reject(new Error(`The condition was not met within ${timeoutMs} ms: ${JSON.stringify(this.stats)}`)),
        );
      }, timeoutMs);
      this.#waiting.add(look);
      look();
    });
  }

  /** Removes objects, counts, faults, queued events and modes. Keeps accounts, their secrets and webhook URLs. */
  reset(): void {
    this.clock.clear();
    this.faults.clear();
    this.sender.clear();
    for (const account of this.#accounts.values()) account.clear();
    Object.assign(this.#outcomes, { accepted: 0, replayed: 0, refused: 0, faulted: 0 });
  }

  /** Drops connections, queued events and running requests. */
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
