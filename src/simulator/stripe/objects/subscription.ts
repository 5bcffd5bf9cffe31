// Subscriptions and their items.
import { addInterval } from "../clock.ts";
import { newId } from "../ids.ts";
import type { Item, Metadata, Objects } from "../types.ts";
import { planOf } from "./catalog.ts";

type Subscription = Objects["subscription"];

/** Also used by invoices. */
export const noTax = { disabled_reason: null, enabled: false, liability: null };

export interface SubscriptionOrder {
  customer: string;
  method: string;
  currency: string;
  items: readonly Item[];
  metadata: Metadata;
  description: string | null;
}

export function newSubscription(now: number, order: SubscriptionOrder): Subscription {
  const id = newId("subscription");
  return {
    id,
    object: "subscription",
    application: null,
    application_fee_percent: null,
    automatic_tax: noTax,
    billing_cycle_anchor: now,
    billing_cycle_anchor_config: null,
    billing_mode: { flexible: { proration_discounts: "included" }, type: "flexible" },
    billing_schedules: [],
    billing_thresholds: null,
    cancel_at: null,
    cancel_at_period_end: false,
    canceled_at: null,
    cancellation_details: { comment: null, feedback: null, feedback_option: null, reason: null },
    collection_method: "charge_automatically",
    created: now,
    currency: order.currency,
    customer: order.customer,
    customer_account: null,
    days_until_due: null,
    default_payment_method: order.method,
    default_source: null,
    default_tax_rates: [],
    description: order.description,
    discounts: [],
    ended_at: null,
    invoice_settings: {
      account_tax_ids: null,
      custom_fields: null,
      description: null,
      footer: null,
      issuer: { type: "self" },
    },
    items: {
      object: "list",
      data: order.items.flatMap((item) => subscriptionItem(now, id, item)),
      has_more: false,
      url: `/v1/subscription_items?subscription=${id}`,
    },
    latest_invoice: null,
    livemode: false,
    managed_payments: { enabled: false },
    metadata: order.metadata,
    next_pending_invoice_item_invoice: null,
    on_behalf_of: null,
    pause_collection: null,
    payment_settings: { payment_method_options: null, payment_method_types: null, save_default_payment_method: "off" },
    pending_invoice_item_interval: null,
    pending_setup_intent: null,
    pending_update: null,
    schedule: null,
    start_date: now,
    status: "incomplete",
    test_clock: null,
    transfer_data: null,
    trial_end: null,
    trial_settings: { end_behavior: { billing_cycle_anchor: null, missing_payment_method: "create_invoice" } },
    trial_start: null,
  };
}

/** Recurring items only; one-time items are only on the first invoice. */
function subscriptionItem(now: number, subscription: string, item: Item): Subscription["items"]["data"] {
  const price = item.price;
  if (price === null || price.recurring === null) return [];
  return [
    {
      id: newId("subscription_item"),
      object: "subscription_item",
      billing_thresholds: null,
      created: now,
      current_period_end: addInterval(now, price.recurring.interval, price.recurring.interval_count),
      current_period_start: now,
      current_trial: null,
      discounts: [],
      metadata: {},
      plan: planOf(price),
      price,
      quantity: item.quantity ?? 1,
      subscription,
      tax_rates: [],
    },
  ];
}
