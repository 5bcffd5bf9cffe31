// One attempt at a payment: the bank's answer, and the events for the intent, its charge and the balance.
import type { Account } from "../account.ts";
import { newCharge } from "../objects/charge.ts";
import { type IntentOrder, newIntent, newMovement, type MovementOrder } from "../objects/payment.ts";
import type { Objects } from "../types.ts";

type Intent = Objects["payment_intent"];
type Charge = Objects["charge"];
type Method = Objects["payment_method"];

/** A direct debit succeeds or fails after this many days. */
export const DEBIT_DAYS = 3;

export function openIntent(account: Account, order: IntentOrder): Intent {
  const intent = account.store.add("payment_intent", newIntent(account.now, order));
  account.emit("payment_intent.created", intent);
  return intent;
}

export function succeed(account: Account, intent: Intent, method: Method): Charge {
  const charge = attempt(account, intent, method);
  return book(account, intent, charge);
}

/** Starts a delayed payment: the bank answers later, through `finish`. */
export function begin(account: Account, intent: Intent, method: Method): Charge {
  const charge = attempt(account, intent, method);
  Object.assign(intent, { status: "processing", processing: null });
  account.emit("charge.pending", charge);
  account.emit("payment_intent.processing", intent);
  return charge;
}

export function finish(account: Account, intent: Intent, charge: Charge, paid: boolean): void {
  if (paid) book(account, intent, charge);
  else refuse(account, intent, charge, "insufficient_funds", "The customer's bank account has insufficient funds.");
}

export function decline(account: Account, intent: Intent, method: Method): Charge {
  const charge = attempt(account, intent, method);
  refuse(account, intent, charge, "card_declined", "Your card was declined.");
  return charge;
}

/** Books a charge, refund or dispute on the balance; it becomes available after the usual days. */
export function move(account: Account, order: MovementOrder): Objects["balance_transaction"] {
  const movement = account.store.add("balance_transaction", newMovement(account.now, order));
  account.later(movement.available_on, () => {
    movement.status = "available";
  });
  return movement;
}

function attempt(account: Account, intent: Intent, method: Method): Charge {
  const charge = account.store.add("charge", newCharge(account.now, intent, method));
  Object.assign(intent, { latest_charge: charge.id, payment_method: method.id, last_payment_error: null });
  return charge;
}

function book(account: Account, intent: Intent, charge: Charge): Charge {
  const card = charge.payment_method_details?.type === "card";
  const movement = move(account, {
    amount: charge.amount,
    // US prices: 2.9 % and 30 cents for a card, 0.8 % and at most 5 dollars for a direct debit.
    fee: card ? Math.round(charge.amount * 0.029) + 30 : Math.min(500, Math.round(charge.amount * 0.008)),
    currency: charge.currency,
    type: card ? "charge" : "payment",
    category: "charge",
    source: charge.id,
    description: charge.description,
  });
  Object.assign(charge, {
    amount_captured: charge.amount,
    balance_transaction: movement.id,
    captured: true,
    outcome: outcomeOf("approved_by_network", null, "Payment complete.", "authorized"),
    paid: true,
    status: "succeeded",
  } satisfies Partial<Charge>);
  Object.assign(intent, { amount_received: intent.amount, status: "succeeded" } satisfies Partial<Intent>);
  account.emit("charge.succeeded", charge);
  account.emit("payment_intent.succeeded", intent);
  return charge;
}

function refuse(account: Account, intent: Intent, charge: Charge, code: string, message: string): void {
  const reason = code === "card_declined" ? "generic_decline" : code;
  Object.assign(charge, {
    failure_code: code,
    failure_message: message,
    outcome: outcomeOf(
      "declined_by_network",
      reason,
      "The bank did not return any further details with this decline.",
      "issuer_declined",
    ),
    status: "failed",
  } satisfies Partial<Charge>);
  const method = account.store.need("payment_method", charge.payment_method);
  Object.assign(intent, {
    last_payment_error: {
      type: "card_error",
      charge: charge.id,
      code,
      decline_code: reason,
      doc_url: `https://stripe.com/docs/error-codes/${code.replaceAll("_", "-")}`,
      message,
      payment_method: structuredClone(method),
    },
    payment_method: null,
    status: "requires_payment_method",
  } satisfies Partial<Intent>);
  account.emit("charge.failed", charge);
  account.emit("payment_intent.payment_failed", intent);
}

function outcomeOf(network: string, reason: string | null, message: string, type: string): Charge["outcome"] {
  return {
    advice_code: null,
    network_advice_code: null,
    network_decline_code: null,
    network_status: network,
    reason,
    risk_level: "normal",
    risk_score: 20,
    seller_message: message,
    type,
  };
}
