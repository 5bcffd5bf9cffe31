// One Stripe account: its objects, keys and endpoints. Another secret key is another account, and sees none of them.
import type { Clock } from "./clock.ts";
import { IdempotencyKeys } from "./idempotency.ts";
import { newId } from "./ids.ts";
import { Store } from "./store.ts";
import { apiVersion, type Item, type Objects, type StripeEvent } from "./types.ts";
import type { WebhookSender } from "./webhook/deliver.ts";
import { wanted } from "./webhook/modes.ts";

/** What all accounts of a simulator share. */
export interface World {
  readonly clock: Clock;
  readonly sender: WebhookSender;
  /** Where the simulator listens, without a slash at the end. */
  url(): string;
}

export class Account {
  readonly id = newId("account");
  readonly secretKey: string;
  /** Of the endpoint that `setWebhook` makes; there before any endpoint is, so that a receiver can be configured first. */
  readonly webhookSecret = newId("webhook_secret");
  readonly world: World;
  readonly store: Store = new Store();
  readonly keys = new IdempotencyKeys();
  /** Lines of links and sessions, by the id of either. */
  readonly items: Map<string, Item[]> = new Map();
  /** Secrets of endpoints, by their id: the API shows one only when it is made. */
  readonly secrets = new Map<string, string>();
  /** Delayed payments that are on their way, by intent: the bank's answer. */
  readonly onTheWay = new Map<string, () => void>();
  /** How many of the next payments fail, by subscription. */
  readonly failures = new Map<string, number>();
  /** The API request that is being served: events name it. */
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

  /** Records an event with the object as it is now, and sends it to every endpoint that wants its type. */
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

  /** Changes an object and tells so, with what the changed fields were. */
  change<Changed extends object>(type: StripeEvent["type"], object: Changed, changes: Partial<Changed>): void {
    const previous = Object.fromEntries(Object.keys(changes).map((name) => [name, object[name as keyof Changed]]));
    const before = structuredClone(previous);
    Object.assign(object, changes);
    this.emit(type, object, before);
  }

  /** The event once more, to every endpoint that wants it: the Resend of Stripe's dashboard. */
  resend(event: StripeEvent): void {
    this.#send(event, this.#endpointsFor(event.type));
  }

  /** Where the events of this account go; null switches the endpoint off. Others, made through the API, stay. */
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

  /** Forgets everything but the key, the webhook's secret and where it goes. */
  clear(): void {
    const url = this.store.get("webhook_endpoint", this.#endpoint)?.url ?? null;
    for (const each of [this.store, this.keys, this.items, this.secrets, this.onTheWay, this.failures]) each.clear();
    this.#endpoint = null;
    if (url !== null) this.setWebhook(url);
  }

  #endpointsFor(type: string): Objects["webhook_endpoint"][] {
    return this.store
      .all("webhook_endpoint")
      .filter(({ status, enabled_events: events }) => status === "enabled" && wanted(type, events));
  }

  #send(event: StripeEvent, endpoints: readonly Objects["webhook_endpoint"][]): void {
    for (const { id, url } of endpoints) {
      this.world.sender.push({ event, url, secret: this.secrets.get(id) ?? "" });
    }
  }
}
