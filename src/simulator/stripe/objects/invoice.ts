// The invoice of one period of a subscription, and the payment that paid it.
import { newId } from "../ids.ts";
import { idOf, type Objects } from "../types.ts";
import { noTax } from "./subscription.ts";

type Invoice = Objects["invoice"];
type Subscription = Objects["subscription"];

export interface InvoiceOrder {
  subscription: Subscription;
  customer: Objects["customer"];
  reason: "subscription_create" | "subscription_cycle";
  items: readonly { description: string; price: Objects["price"]; quantity: number; subscriptionItem: string | null }[];
  number: string;
  page: string;
}

/** Finalized at once: at Stripe, a renewal is a draft for an hour. */
export function newInvoice(now: number, order: InvoiceOrder): Invoice {
  const { subscription, customer } = order;
  const id = newId("invoice");
  const total = order.items.reduce((sum, { price, quantity }) => sum + (price.unit_amount ?? 0) * quantity, 0);
  const [first] = subscription.items.data;
  return {
    id,
    object: "invoice",
    account_country: "US",
    account_name: "BrainOps simulator",
    account_tax_ids: null,
    amount_due: total,
    amount_overpaid: 0,
    amount_paid: 0,
    amount_remaining: total,
    amount_shipping: 0,
    application: null,
    attempt_count: 0,
    attempted: false,
    auto_advance: true,
    automatic_tax: { ...noTax, provider: null, status: null },
    automatically_finalizes_at: null,
    billing_reason: order.reason,
    collection_method: "charge_automatically",
    created: now,
    currency: subscription.currency,
    custom_fields: null,
    customer: customer.id,
    customer_account: null,
    customer_address: null,
    customer_email: customer.email,
    customer_name: customer.name ?? null,
    customer_phone: null,
    customer_shipping: null,
    customer_tax_exempt: "none",
    customer_tax_ids: [],
    default_payment_method: null,
    default_source: null,
    default_tax_rates: [],
    description: null,
    discounts: [],
    due_date: null,
    effective_at: now,
    ending_balance: 0,
    footer: null,
    from_invoice: null,
    hosted_invoice_url: order.page,
    invoice_pdf: null,
    issuer: { type: "self" },
    last_finalization_error: null,
    latest_revision: null,
    lines: {
      object: "list",
      data: order.items.map((item) => line(id, subscription, item)),
      has_more: false,
      url: `/v1/invoices/${id}/lines`,
    },
    livemode: false,
    metadata: {},
    next_payment_attempt: null,
    number: order.number,
    on_behalf_of: null,
    parent: {
      quote_details: null,
      subscription_details: { metadata: { ...subscription.metadata }, subscription: subscription.id },
      type: "subscription_details",
    },
    payment_settings: { default_mandate: null, payment_method_options: null, payment_method_types: null },
    // An invoice's own period is the previous one; the period that it charges for is in its lines.
    period_end: now,
    period_start: order.reason === "subscription_create" ? now : (first?.current_period_start ?? now),
    post_payment_credit_notes_amount: 0,
    pre_payment_credit_notes_amount: 0,
    receipt_number: null,
    rendering: null,
    shipping_cost: null,
    shipping_details: null,
    starting_balance: 0,
    statement_descriptor: null,
    status: "open",
    status_transitions: { finalized_at: now, marked_uncollectible_at: null, paid_at: null, voided_at: null },
    subtotal: total,
    subtotal_excluding_tax: total,
    test_clock: null,
    total,
    total_discount_amounts: [],
    total_excluding_tax: total,
    total_pretax_credit_amounts: [],
    total_taxes: [],
    webhooks_delivered_at: now,
  };
}

function line(
  invoice: string,
  subscription: Subscription,
  { description, price, quantity, subscriptionItem: item }: InvoiceOrder["items"][number],
): Invoice["lines"]["data"][number] {
  const amount = (price.unit_amount ?? 0) * quantity;
  const period = subscription.items.data[0];
  return {
    id: newId("line_item"),
    object: "line_item",
    amount,
    currency: price.currency,
    description,
    discount_amounts: [],
    discountable: true,
    discounts: [],
    invoice,
    livemode: false,
    metadata: { ...subscription.metadata },
    parent:
      item === null
        ? null
        : {
            invoice_item_details: null,
            subscription_item_details: {
              invoice_item: null,
              proration: false,
              proration_details: null,
              subscription: subscription.id,
              subscription_item: item,
            },
            type: "subscription_item_details",
          },
    period: { end: period?.current_period_end ?? 0, start: period?.current_period_start ?? 0 },
    pretax_credit_amounts: [],
    pricing: {
      price_details: { price: price.id, product: idOf(price.product) ?? "" },
      type: "price_details",
      unit_amount_decimal: price.unit_amount_decimal,
    },
    quantity,
    quantity_decimal: String(quantity),
    subscription: subscription.id,
    subtotal: amount,
    taxes: [],
  };
}

export function newInvoicePayment(now: number, invoice: Invoice, intent: string): Objects["invoice_payment"] {
  return {
    id: newId("invoice_payment"),
    object: "invoice_payment",
    amount_paid: null,
    amount_requested: invoice.amount_due,
    created: now,
    currency: invoice.currency,
    invoice: invoice.id,
    is_default: true,
    livemode: false,
    payment: { payment_intent: intent, type: "payment_intent" },
    status: "open",
    status_transitions: { canceled_at: null, paid_at: null },
  };
}
