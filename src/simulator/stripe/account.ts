// One Stripe account: its objects, keys and endpoints. Each secret key is an account that cannot see the others.
import type { Clock } from "./clock.ts";
import { IdempotencyKeys } from "./idempotency.ts";
import { newId } from "./ids.ts";
import { Store } from "./store.ts";
import { apiVersion, type Item, type Objects, type StripeEvent } from "./types.ts";
import type { WebhookSender } from "./webhook/deliver.ts";
import { matches } from "./webhook/modes.ts";

/** What all accounts of a simulator share. */
export interface World {
  readonly clock: Clock;
  readonly sender: WebhookSender;
  /** The simulator's base URL, without a trailing slash. */
  url(): string;
}

export class Account {
  readonly id = newId("account");
  readonly secretKey: string;
  /** Secret of the endpoint that `setWebhook` creates. It exists before, so that a receiver can be configured first. */
  readonly webhookSecret = newId("webhook_secret");
  readonly world: World;
  readonly store: Store = new Store();
  readonly keys = new IdempotencyKeys();
  /** Line items of payment links and sessions, by the id of either. */
  readonly items: Map<string, Item[]> = new Map();
  /** Secrets of endpoints, by endpoint id; the API returns a secret only when the endpoint is created. */
  readonly secrets = new Map<string, string>();
  /** Pending delayed payments, by payment intent: the function that delivers the bank's answer. */
  readonly pendingPayments = new Map<string, () => void>();
  /** How many of the next payments fail, by subscription. */
  readonly failures = new Map<string, number>();
  /** The API request that is being served; events refer to it. */
  request: StripeEvent["request"] = { id: null, idempotency_key: null };
  #endpoint: string | null = null;

  constructor(secretKey: string, world: World) {
    this.secretKey = secretKey;
    this.world = world;
  }

  get now(): number {
    return this.world.clock.now;
  }

  later(at: number, act: () => void): void {
    this.world.clock.later(at, act);
  }

  /** Records an event with a copy of the object, and queues it for every endpoint that is subscribed to the type. */
  emit(type: StripeEvent["type"], object: object, previous?: object): StripeEvent {
    const endpoints = this.#endpointsFor(type);
    const event = this.store.add("event", {
      id: newId("event"),
      object: "event",
      api_version: apiVersion,
      created: this.now,
      data: structuredClone(previous === undefined ? { object } : { object, previous_attributes: previous }),
      livemode: false,
      pending_webhooks: endpoints.length,
      request: { ...this.request },
      type,
    });
    this.#send(event, endpoints);
    return event;
  }

  /** Changes an object and emits an event with the previous values of the changed fields. */
  change<Changed extends object>(type: StripeEvent["type"], object: Changed, changes: Partial<Changed>): void {
    const previous = Object.fromEntries(Object.keys(changes).map((name) => [name, object[name as keyof Changed]]));
    const before = structuredClone(previous);
    Object.assign(object, changes);
    this.emit(type, object, before);
  }

  /** Queues the event again for every subscribed endpoint, like Resend in Stripe's dashboard. */
  resend(event: StripeEvent): void {
    this.#send(event, this.#endpointsFor(event.type));
  }

  /** Sets the URL for this account's events; null disables the endpoint. Does not affect endpoints of the API. */
  setWebhook(url: string | null): void {
    const known = this.store.get("webhook_endpoint", this.#endpoint);
    if (url === null) {
      if (known !== null) known.status = "disabled";
      return;
    }
    const endpoint = known ?? this.addEndpoint({ url, events: ["*"], secret: this.webhookSecret, description: null });
    this.#endpoint = endpoint.id;
    Object.assign(endpoint, { url, status: "enabled" });
  }

  addEndpoint(order: {
    url: string;
    events: string[];
    secret: string;
    description: string | null;
  }): Objects["webhook_endpoint"] {
    const endpoint = this.store.add("webhook_endpoint", {
      id: newId("webhook_endpoint"),
      object: "webhook_endpoint",
      api_version: null,
      application: null,
      created: this.now,
      description: order.description,
      enabled_events: order.events,
      livemode: false,
      metadata: {},
      status: "enabled",
      url: order.url,
    });
    this.secrets.set(endpoint.id, order.secret);
    return endpoint;
  }

  /** Removes everything except the key, the webhook secret and the webhook URL. */
  clear(): void {
    const url = this.store.get("webhook_endpoint", this.#endpoint)?.url ?? null;
    for (const each of [this.store, this.keys, this.items, this.secrets, this.pendingPayments, this.failures])
      each.clear();
    this.#endpoint = null;
    if (url !== null) this.setWebhook(url);
  }

  #endpointsFor(type: string): Objects["webhook_endpoint"][] {
    return this.store
      .all("webhook_endpoint")
      .filter(({ status, enabled_events: events }) => status === "enabled" && matches(type, events));
  }

  #send(event: StripeEvent, endpoints: readonly Objects["webhook_endpoint"][]): void {
    for (const { id, url } of endpoints) {
      this.world.sender.push({ event, url, secret: this.secrets.get(id) ?? "" });
    }
  }
}
