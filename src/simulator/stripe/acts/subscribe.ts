// The life of a subscription: start, renewals, failed payments and their retries, end.
import type { Account } from "../account.ts";
import { addInterval, DAY } from "../clock.ts";
import { newSubscription } from "../objects/subscription.ts";
import { idOf, type Objects } from "../types.ts";
import { begin, decline, finish, succeed } from "./charge.ts";
import { addInvoice, intentOf, type Line, markPaid } from "./invoice.ts";

type Invoice = Objects["invoice"];
type Subscription = Objects["subscription"];
type Intent = Objects["payment_intent"];

/** Days until each retry of a failed payment; after the last one the subscription ends. */
const RETRY_DAYS = [3, 5, 7];

interface Start {
  link: Objects["payment_link"];
  session: Objects["checkout.session"];
  customer: Objects["customer"];
  method: Objects["payment_method"];
  /** True for a direct debit: the bank answers later. */
  delayed: boolean;
}

interface Started {
  subscription: Subscription;
  invoice: Invoice;
  intent: Intent;
  charge: Objects["charge"];
  /** Delivers the bank's answer to a delayed payment. */
  answer(paid: boolean): void;
}

export function startSubscription(account: Account, { link, session, customer, method, delayed }: Start): Started {
  const items = account.items.get(session.id) ?? [];
  const subscription = account.store.add(
    "subscription",
    newSubscription(account.now, {
      customer: customer.id,
      method: method.id,
      currency: session.currency ?? "usd",
      items,
      metadata: { ...link.subscription_data?.metadata },
      description: link.subscription_data?.description ?? null,
    }),
  );
  account.emit("customer.subscription.created", subscription);
  const lines = items.flatMap(({ price, description, quantity }): Line[] => {
    if (price === null) return [];
    const item = subscription.items.data.find((each) => each.price.id === price.id)?.id ?? null;
    return [{ price, description: description ?? "", quantity: quantity ?? 1, subscriptionItem: item }];
  });
  const { invoice, intent } = addInvoice(account, subscription, lines, "subscription_create");
  const charge = (delayed ? begin : succeed)(account, intent, method);
  account.change("customer.subscription.updated", subscription, { status: "active" });
  if (!delayed) markPaid(account, invoice);
  renewAtItsEnd(account, subscription);
  return {
    subscription,
    invoice,
    intent,
    charge,
    answer: (paid) => {
      finish(account, intent, charge, paid);
      if (paid) markPaid(account, invoice);
      else failed(account, subscription, invoice);
    },
  };
}

/** Ends the subscription now. False if it has already ended. */
export function endSubscription(
  account: Account,
  subscription: Subscription,
  reason: "cancellation_requested" | "payment_failed",
): boolean {
  if (subscription.status === "canceled") return false;
  Object.assign(subscription, {
    cancel_at_period_end: false,
    canceled_at: subscription.canceled_at ?? account.now,
    cancellation_details: { comment: null, feedback: null, feedback_option: null, reason },
    ended_at: account.now,
    status: "canceled",
  } satisfies Partial<Subscription>);
  account.emit("customer.subscription.deleted", subscription);
  return true;
}

function renewAtItsEnd(account: Account, subscription: Subscription): void {
  account.later(subscription.items.data[0]?.current_period_end ?? Number.POSITIVE_INFINITY, () => {
    if (subscription.status === "canceled") return;
    if (subscription.cancel_at_period_end) endSubscription(account, subscription, "cancellation_requested");
    else renew(account, subscription);
  });
}

function renew(account: Account, subscription: Subscription): void {
  const items = structuredClone(subscription.items);
  for (const item of items.data) {
    const { interval = "month", interval_count: count = 1 } = item.price.recurring ?? {};
    item.current_period_start = item.current_period_end;
    // Counted from the anchor: a period that began on the 31st ends on the 31st again after a shorter month.
    let cycles = 1;
    const endOf = (): number => addInterval(subscription.billing_cycle_anchor, interval, cycles * count);
    while (endOf() <= item.current_period_start) cycles++;
    item.current_period_end = endOf();
  }
  account.change("customer.subscription.updated", subscription, { items });
  const lines = items.data.map((item): Line => {
    const product = account.store.get("product", idOf(item.price.product));
    const quantity = item.quantity ?? 1;
    return {
      price: item.price,
      description: `${quantity} × ${product?.name ?? ""}`,
      quantity,
      subscriptionItem: item.id,
    };
  });
  const { invoice } = addInvoice(account, subscription, lines, "subscription_cycle");
  collect(account, subscription, invoice);
  renewAtItsEnd(account, subscription);
}

/** One attempt at an open invoice with the payer's saved method. */
function collect(account: Account, subscription: Subscription, invoice: Invoice): void {
  if (invoice.status !== "open" || subscription.status === "canceled") return;
  const intent = account.store.need("payment_intent", intentOf(account, invoice));
  const method = account.store.need("payment_method", idOf(subscription.default_payment_method));
  const failures = account.failures.get(subscription.id) ?? 0;
  if (failures > 0) {
    account.failures.set(subscription.id, failures - 1);
    decline(account, intent, method);
    failed(account, subscription, invoice);
    return;
  }
  succeed(account, intent, method);
  if (subscription.status !== "active") {
    account.change("customer.subscription.updated", subscription, { status: "active" });
  }
  markPaid(account, invoice);
}

function failed(account: Account, subscription: Subscription, invoice: Invoice): void {
  const pause = RETRY_DAYS[invoice.attempt_count];
  const next = pause === undefined ? null : account.now + pause * DAY;
  Object.assign(invoice, {
    attempt_count: invoice.attempt_count + 1,
    attempted: true,
    next_payment_attempt: next,
  } satisfies Partial<Invoice>);
  account.emit("invoice.payment_failed", invoice);
  if (subscription.status !== "past_due") {
    account.change("customer.subscription.updated", subscription, { status: "past_due" });
  }
  if (next === null) endSubscription(account, subscription, "payment_failed");
  else account.later(next, () => collect(account, subscription, invoice));
}
