// Products, prices, and the line items of a link or a session.
import { newId } from "../ids.ts";
import type { Item, Metadata, Objects } from "../types.ts";

export function newProduct(
  now: number,
  order: { name: string; description: string | null; metadata: Metadata; active?: boolean },
): Objects["product"] {
  return {
    id: newId("product"),
    object: "product",
    active: order.active ?? true,
    created: now,
    default_price: null,
    description: order.description,
    images: [],
    livemode: false,
    marketing_features: [],
    metadata: order.metadata,
    name: order.name,
    package_dimensions: null,
    shippable: null,
    statement_descriptor: null,
    tax_code: null,
    tax_details: null,
    type: "service",
    unit_label: null,
    updated: now,
    url: null,
  };
}

export interface PriceOrder {
  product: string;
  currency: string;
  unitAmount: number;
  recurring: { interval: "day" | "week" | "month" | "year"; count: number } | null;
  taxBehavior: "exclusive" | "inclusive" | "unspecified";
  nickname?: string | null;
  lookupKey?: string | null;
  metadata?: Metadata;
  /** A price created by a link's price_data can't be used for anything else. */
  active: boolean;
}

export function newPrice(now: number, order: PriceOrder): Objects["price"] {
  return {
    id: newId("price"),
    object: "price",
    active: order.active,
    billing_scheme: "per_unit",
    created: now,
    currency: order.currency,
    custom_unit_amount: null,
    livemode: false,
    lookup_key: order.lookupKey ?? null,
    metadata: order.metadata ?? {},
    nickname: order.nickname ?? null,
    product: order.product,
    recurring:
      order.recurring === null
        ? null
        : {
            interval: order.recurring.interval,
            interval_count: order.recurring.count,
            meter: null,
            trial_period_days: null,
            usage_type: "licensed",
          },
    tax_behavior: order.taxBehavior,
    tiers_mode: null,
    transform_quantity: null,
    type: order.recurring === null ? "one_time" : "recurring",
    unit_amount: order.unitAmount,
    unit_amount_decimal: String(order.unitAmount),
  };
}

export interface ItemOrder {
  price: Objects["price"];
  description: string;
  quantity: number;
  adjustable: { enabled: boolean; minimum: number | null; maximum: number | null } | null;
}

export function newItem({ price, description, quantity, adjustable }: ItemOrder): Item {
  const amount = (price.unit_amount ?? 0) * quantity;
  return {
    id: newId("item"),
    object: "item",
    adjustable_quantity: adjustable,
    amount_discount: 0,
    amount_subtotal: amount,
    amount_tax: 0,
    amount_total: amount,
    currency: price.currency,
    description,
    metadata: {},
    price,
    quantity,
  };
}

export function totalOf(items: readonly Item[]): number {
  return items.reduce((sum, item) => sum + item.amount_total, 0);
}

/** The older format of a price that subscriptions and their items still contain. */
export function planOf(price: Objects["price"]): Objects["subscription"]["items"]["data"][number]["plan"] {
  return {
    id: price.id,
    object: "plan",
    active: price.active,
    amount: price.unit_amount,
    amount_decimal: price.unit_amount_decimal,
    billing_scheme: price.billing_scheme,
    created: price.created,
    currency: price.currency,
    interval: price.recurring?.interval ?? "month",
    interval_count: price.recurring?.interval_count ?? 1,
    livemode: false,
    metadata: price.metadata,
    meter: null,
    nickname: price.nickname,
    product: price.product as string,
    tiers_mode: null,
    transform_usage: null,
    trial_period_days: null,
    usage_type: "licensed",
  };
}
