// Subscriptions, their invoices, and the payment intents that paid them.
import { z } from "zod";
import { endSubscription } from "../acts/subscribe.ts";
import type { Account } from "../account.ts";
import { emptyable, flag, mergeMetadata, metadata, read, shape, text } from "../params.ts";
import { idOf, type Objects } from "../types.ts";
import { listOf, retrieve, type Routes, theOne } from "./route.ts";

const update = shape({
  cancel_at_period_end: flag.optional(),
  description: emptyable(text).optional(),
  metadata: metadata.optional(),
});

/** Filters for lists of invoices and subscriptions. */
const filters = { customer: text.optional(), status: text.optional() };

export const billing: Routes = {
  "GET /v1/subscriptions": listOf("subscription", "/v1/subscriptions", filters, (subscription, asked) => {
    const { customer = subscription.customer, status } = asked;
    // By default, subscriptions that have ended are omitted.
    const shown = status === "all" || subscription.status === (status ?? subscription.status);
    return subscription.customer === customer && shown && (status !== undefined || subscription.status !== "canceled");
  }),
  "GET /v1/subscriptions/:id": retrieve("subscription"),
  "POST /v1/subscriptions/:id": (account, form, id) => {
    const subscription = theOne(account, "subscription", id);
    const order = read(update, form);
    return () => {
      if (order.cancel_at_period_end !== undefined) cancelAtEnd(account, subscription, order.cancel_at_period_end);
      const { description, metadata: pairs } = order;
      if (description !== undefined || pairs !== undefined) {
        account.change("customer.subscription.updated", subscription, {
          description: description === undefined ? subscription.description : description,
          metadata: mergeMetadata(subscription.metadata, pairs ?? {}),
        });
      }
      return subscription;
    };
  },
  "DELETE /v1/subscriptions/:id": (account, form, id) => {
    read(shape({}), form);
    const subscription = theOne(account, "subscription", id);
    return () => {
      endSubscription(account, subscription, "cancellation_requested");
      return subscription;
    };
  },
  "GET /v1/invoices": listOf(
    "invoice",
    "/v1/invoices",
    { ...filters, subscription: text.optional() },
    (invoice, asked) =>
      invoice.customer === (asked.customer ?? invoice.customer) &&
      invoice.status === (asked.status ?? invoice.status) &&
      (asked.subscription === undefined || subscriptionOf(invoice) === asked.subscription),
  ),
  "GET /v1/invoices/:id": retrieve("invoice"),
  "GET /v1/invoice_payments": listOf(
    "invoice_payment",
    "/v1/invoice_payments",
    {
      invoice: text.optional(),
      status: text.optional(),
      payment: z.strictObject({ type: z.literal("payment_intent"), payment_intent: text }).optional(),
    },
    (each, asked) =>
      each.invoice === (asked.invoice ?? each.invoice) &&
      each.status === (asked.status ?? each.status) &&
      (asked.payment === undefined || each.payment.payment_intent === asked.payment.payment_intent),
  ),
  "GET /v1/invoice_payments/:id": retrieve("invoice_payment"),
};

export function subscriptionOf(invoice: Objects["invoice"]): string | null {
  return idOf(invoice.parent?.subscription_details?.subscription);
}

/** Makes the current period the last one, or undoes that. */
export function cancelAtEnd(account: Account, subscription: Objects["subscription"], yes: boolean): void {
  const end = Math.max(...subscription.items.data.map((item) => item.current_period_end));
  account.change("customer.subscription.updated", subscription, {
    cancel_at: yes ? end : null,
    cancel_at_period_end: yes,
    canceled_at: yes ? account.now : null,
    cancellation_details: {
      comment: null,
      feedback: null,
      feedback_option: null,
      reason: yes ? "cancellation_requested" : null,
    },
  });
}
