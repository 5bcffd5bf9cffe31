// A person follows a payment link and pays, or leaves.
import type { Account } from "../account.ts";
import { DAY } from "../clock.ts";
import { newSession } from "../objects/link.ts";
import { newCustomer, newMethod, noAddress, type Payer } from "../objects/payer.ts";
import type { Objects } from "../types.ts";
import { begin, DEBIT_DAYS, decline, finish, openIntent, succeed } from "./charge.ts";
import { startSubscription } from "./subscribe.ts";

type Link = Objects["payment_link"];
type Session = Objects["checkout.session"];

/** The result. Objects that were not created are null. */
export interface Payment {
  /** `refused`: the link does not accept payments, so no session exists; `processing`: a delayed payment method. */
  outcome: "paid" | "processing" | "declined" | "refused";
  /** Why it was declined or refused, as shown to the payer. */
  reason: string | null;
  session: Session | null;
  paymentIntent: Objects["payment_intent"] | null;
  charge: Objects["charge"] | null;
  invoice: Objects["invoice"] | null;
  subscription: Objects["subscription"] | null;
}

const nothing = { reason: null, session: null, paymentIntent: null, charge: null, invoice: null, subscription: null };

/** Why the link does not accept payments, as its page says; null if it does. */
export function closedReason(link: Link): string | null {
  const completed = link.restrictions?.completed_sessions;
  const usedUp = completed !== undefined && completed.count >= completed.limit;
  if (link.active && !usedUp) return null;
  return link.inactive_message ?? "The link is no longer active.";
}

/** Opens a session and leaves; it expires after a day. Null if the link does not accept payments. */
export function visit(account: Account, link: Link): Session | null {
  if (closedReason(link) !== null) return null;
  const items = account.items.get(link.id) ?? [];
  const session = account.store.add("checkout.session", newSession(account.now, link, items));
  account.items.set(session.id, items);
  account.later(session.expires_at, () => expire(account, session));
  return session;
}

/** Expires the session. False if it is complete or already expired. */
export function expire(account: Account, session: Session): boolean {
  if (session.status !== "open") return false;
  Object.assign(session, { status: "expired", url: null });
  account.emit("checkout.session.expired", session);
  return true;
}

export function pay(account: Account, link: Link, payer: Payer): Payment {
  const session = visit(account, link);
  if (session === null) return { ...nothing, outcome: "refused", reason: closedReason(link) };
  if (payer.card === "declined") return beDeclined(account, link, session, payer);
  return session.mode === "subscription"
    ? subscribe(account, link, session, payer)
    : payOnce(account, link, session, payer);
}

function beDeclined(account: Account, link: Link, session: Session, payer: Payer): Payment {
  const intent = openIntent(account, intentOrder(link, session, payer, null));
  // An open session keeps the intent of a failed attempt, except for a subscription, which starts with its first payment.
  if (session.mode === "payment") session.payment_intent = intent.id;
  const charge = decline(account, intent, account.store.add("payment_method", newMethod(account.now, payer, null)));
  return { ...nothing, outcome: "declined", reason: charge.failure_message, session, paymentIntent: intent, charge };
}

function payOnce(account: Account, link: Link, session: Session, payer: Payer): Payment {
  const customer = link.customer_creation === "always" ? addCustomer(account, session, payer) : null;
  const intent = openIntent(account, intentOrder(link, session, payer, customer?.id ?? null));
  const method = account.store.add("payment_method", newMethod(account.now, payer, customer?.id ?? null));
  session.payment_intent = intent.id;
  if (payer.card === "async_ok" || payer.card === "async_fail") {
    const charge = begin(account, intent, method);
    complete(account, link, session, payer, "unpaid");
    answerLater(account, intent.id, () => {
      finish(account, intent, charge, payer.card === "async_ok");
      emitDelayedResult(account, session, payer.card === "async_ok");
    });
    return { ...nothing, outcome: "processing", session, paymentIntent: intent, charge };
  }
  const charge = succeed(account, intent, method);
  complete(account, link, session, payer, "paid");
  return { ...nothing, outcome: "paid", session, paymentIntent: intent, charge };
}

function subscribe(account: Account, link: Link, session: Session, payer: Payer): Payment {
  const customer = addCustomer(account, session, payer);
  const method = account.store.add("payment_method", newMethod(account.now, payer, customer.id));
  customer.invoice_settings.default_payment_method = method.id;
  account.emit("payment_method.attached", method);
  const delayed = payer.card === "async_ok" || payer.card === "async_fail";
  const started = startSubscription(account, { link, session, customer, method, delayed });
  const { subscription, invoice, intent, charge } = started;
  Object.assign(session, { subscription: subscription.id, invoice: invoice.id });
  complete(account, link, session, payer, delayed ? "unpaid" : "paid");
  if (delayed) {
    answerLater(account, intent.id, () => {
      started.answer(payer.card === "async_ok");
      emitDelayedResult(account, session, payer.card === "async_ok");
    });
  }
  const outcome = delayed ? "processing" : "paid";
  return { ...nothing, outcome, session, paymentIntent: intent, charge, invoice, subscription };
}

function addCustomer(account: Account, session: Session, payer: Payer): Objects["customer"] {
  const customer = account.store.add("customer", newCustomer(account.now, payer, session.currency ?? "usd"));
  session.customer = customer.id;
  account.emit("customer.created", customer);
  return customer;
}

function intentOrder(
  link: Link,
  session: Session,
  payer: Payer,
  customer: string | null,
): Parameters<typeof openIntent>[1] {
  return {
    amount: session.amount_total ?? 0,
    currency: session.currency ?? "usd",
    customer,
    description: link.payment_intent_data?.description ?? null,
    // A link's metadata is copied to its sessions; the intent gets that of payment_intent_data.
    metadata: { ...link.payment_intent_data?.metadata },
    receiptEmail: payer.email,
    offSession: session.mode === "subscription",
  };
}

function complete(
  account: Account,
  link: Link,
  session: Session,
  payer: Payer,
  paymentStatus: Session["payment_status"],
): void {
  Object.assign(session, {
    customer_details: {
      address: noAddress,
      business_name: null,
      email: payer.email,
      individual_name: null,
      name: payer.name ?? null,
      phone: null,
      tax_exempt: "none",
      tax_ids: [],
    },
    payment_status: paymentStatus,
    status: "complete",
    url: null,
  } satisfies Partial<Session>);
  account.emit("checkout.session.completed", session);
  countCompleted(account, link);
}

/** The last session that a restriction allows deactivates the link. */
function countCompleted(account: Account, link: Link): void {
  if (link.restrictions === null) return;
  const { count, limit } = link.restrictions.completed_sessions;
  const restrictions = { completed_sessions: { count: count + 1, limit } };
  if (count + 1 < limit) link.restrictions = restrictions;
  else account.change("payment_link.updated", link, { active: false, restrictions });
}

function answerLater(account: Account, intent: string, answer: () => void): void {
  const once = (): void => {
    if (account.pendingPayments.delete(intent)) answer();
  };
  account.pendingPayments.set(intent, once);
  account.later(account.now + DEBIT_DAYS * DAY, once);
}

function emitDelayedResult(account: Account, session: Session, paid: boolean): void {
  if (paid) session.payment_status = "paid";
  account.emit(paid ? "checkout.session.async_payment_succeeded" : "checkout.session.async_payment_failed", session);
}
