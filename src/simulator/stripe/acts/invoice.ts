// Creates and pays the invoices of a subscription.
import type { Account } from "../account.ts";
import { newInvoice, newInvoicePayment } from "../objects/invoice.ts";
import { idOf, type Objects } from "../types.ts";
import { openIntent } from "./charge.ts";

type Invoice = Objects["invoice"];
type Subscription = Objects["subscription"];

export type Line = Parameters<typeof newInvoice>[1]["items"][number];

/** Creates an open invoice and the intent that pays it. */
export function addInvoice(
  account: Account,
  subscription: Subscription,
  items: readonly Line[],
  reason: "subscription_create" | "subscription_cycle",
): { invoice: Invoice; intent: Objects["payment_intent"] } {
  const customer = account.store.need("customer", idOf(subscription.customer));
  const sequence = customer.next_invoice_sequence ?? 1;
  customer.next_invoice_sequence = sequence + 1;
  const number = `${customer.invoice_prefix}-${String(sequence).padStart(4, "0")}`;
  const page = `${account.world.url()}/invoice/${number}`;
  const invoice = account.store.add(
    "invoice",
    newInvoice(account.now, { subscription, customer, reason, items, number, page }),
  );
  subscription.latest_invoice = invoice.id;
  account.emit("invoice.created", invoice);
  account.emit("invoice.finalized", invoice);
  const intent = openIntent(account, {
    amount: invoice.amount_due,
    currency: invoice.currency,
    customer: customer.id,
    description: reason === "subscription_create" ? "Subscription creation" : "Subscription update",
    metadata: {},
    receiptEmail: null,
    offSession: true,
  });
  account.store.add("invoice_payment", newInvoicePayment(account.now, invoice, intent.id));
  return { invoice, intent };
}

/** The intent that pays an invoice; null without one. */
export function intentOf(account: Account, invoice: Invoice): string | null {
  const payment = account.store.all("invoice_payment").find((each) => each.invoice === invoice.id);
  return idOf(payment?.payment.payment_intent);
}

export function markPaid(account: Account, invoice: Invoice): void {
  Object.assign(invoice, {
    amount_paid: invoice.amount_due,
    amount_remaining: 0,
    attempt_count: invoice.attempt_count + 1,
    attempted: true,
    auto_advance: false,
    next_payment_attempt: null,
    status: "paid",
    status_transitions: { ...invoice.status_transitions, paid_at: account.now },
  } satisfies Partial<Invoice>);
  account.emit("invoice.paid", invoice);
  account.emit("invoice.payment_succeeded", invoice);
  const payment = account.store.all("invoice_payment").find((each) => each.invoice === invoice.id);
  if (payment === undefined) return;
  Object.assign(payment, {
    amount_paid: invoice.amount_due,
    status: "paid",
    status_transitions: { canceled_at: null, paid_at: account.now },
  } satisfies Partial<typeof payment>);
  account.emit("invoice_payment.paid", payment);
}
