// Refunds, failed refunds, disputes and their end.
import type { Account } from "../account.ts";
import { invalid } from "../errors.ts";
import { newDispute, newRefund } from "../objects/reversal.ts";
import { idOf, type Metadata, type Objects } from "../types.ts";
import { move } from "./charge.ts";

type Charge = Objects["charge"];
type Refund = Objects["refund"];
type Dispute = Objects["dispute"];

/** The bank's fee for a chargeback, returned only if the dispute is won. */
const DISPUTE_FEE = 1500;

/** The amount to refund; a null `amount` means all that is left. Throws Stripe's error if it can't be refunded. */
export function refundable(charge: Charge, amount: number | null): number {
  const left = charge.amount - charge.amount_refunded;
  if (charge.status !== "succeeded") throw invalid(`Charge ${charge.id} has not been paid.`, "charge");
  if (charge.disputed) {
    throw invalid(`Charge ${charge.id} has been charged back; cannot issue a refund.`, undefined, "charge_disputed");
  }
  if (left === 0) {
    throw invalid(`Charge ${charge.id} has already been refunded.`, undefined, "charge_already_refunded");
  }
  const wanted = amount ?? left;
  if (wanted > left) {
    const [asked, open] = [wanted, left].map((minor) => `${minor} ${charge.currency}`);
    throw invalid(`Refund amount (${asked}) is greater than unrefunded amount on charge (${open})`, "amount");
  }
  if (wanted <= 0) throw invalid("Invalid positive integer", "amount", "parameter_invalid_integer");
  return wanted;
}

export function refund(
  account: Account,
  charge: Charge,
  order: { amount: number | null; reason: Refund["reason"]; metadata: Metadata },
): Refund {
  const amount = refundable(charge, order.amount);
  const source = charge.id;
  const movement = move(account, {
    amount: -amount,
    fee: 0,
    currency: charge.currency,
    type: "refund",
    category: "refund",
    source,
    description: `REFUND FOR CHARGE (${charge.description ?? charge.id})`,
  });
  const made = account.store.add(
    "refund",
    newRefund(account.now, charge, { amount, reason: order.reason, metadata: order.metadata, movement: movement.id }),
  );
  movement.source = made.id;
  const refunded = charge.amount_refunded + amount;
  account.emit("refund.created", made);
  account.change("charge.refunded", charge, { amount_refunded: refunded, refunded: refunded === charge.amount });
  return made;
}

/** The payer's bank returns the refund: the money goes back to the balance. */
export function failRefund(account: Account, made: Refund): void {
  if (made.status === "failed") throw new Error(`Refund ${made.id} has already failed; a refund can fail only once`);
  const charge = account.store.need("charge", idOf(made.charge));
  const movement = move(account, {
    amount: made.amount,
    fee: 0,
    currency: made.currency,
    type: "refund_failure",
    category: "refund_failure",
    source: made.id,
    description: `REFUND FAILURE (${made.id})`,
  });
  Object.assign(charge, { amount_refunded: charge.amount_refunded - made.amount, refunded: false });
  const changes = {
    failure_balance_transaction: movement.id,
    failure_reason: "lost_or_stolen_card",
    status: "failed",
  } satisfies Partial<Refund>;
  account.change("refund.updated", made, changes);
  account.emit("charge.refund.updated", made);
  account.emit("refund.failed", made);
}

export function dispute(
  account: Account,
  charge: Charge,
  order: { amount: number | null; reason: string; inquiry: boolean },
): Dispute {
  if (charge.status !== "succeeded" || charge.disputed) {
    throw new Error(
      `Charge ${charge.id} is ${charge.disputed ? "already disputed" : charge.status}; only a paid charge can be disputed`,
    );
  }
  const amount = order.amount ?? charge.amount - charge.amount_refunded;
  const made = account.store.add("dispute", newDispute(account.now, charge, { ...order, amount }));
  charge.disputed = true;
  if (!order.inquiry) made.balance_transactions.push(withdrawal(account, made, -1));
  account.emit("charge.dispute.created", made);
  if (!order.inquiry) account.emit("charge.dispute.funds_withdrawn", made);
  return made;
}

/** Throws if the dispute is already closed. */
export function closable(made: Dispute): void {
  if (!["won", "lost", "warning_closed"].includes(made.status)) return;
  throw invalid(`This dispute is already closed: its status is ${made.status}.`, "dispute");
}

/** Closes the dispute with the bank's decision; an inquiry is closed with either verdict. */
export function closeDispute(account: Account, made: Dispute, verdict: "won" | "lost"): void {
  closable(made);
  const inquiry = made.status.startsWith("warning");
  made.status = inquiry ? "warning_closed" : verdict;
  if (!inquiry && verdict === "won") made.balance_transactions.push(withdrawal(account, made, 1));
  account.emit("charge.dispute.closed", made);
  if (inquiry || verdict === "lost") return;
  account.emit("charge.dispute.funds_reinstated", made);
}

/** Books amount and fee: out (-1), or back in if the dispute is won (1). */
function withdrawal(account: Account, made: Dispute, sign: 1 | -1): Objects["balance_transaction"] {
  return move(account, {
    amount: sign * made.amount,
    fee: -sign * DISPUTE_FEE,
    currency: made.currency,
    type: "adjustment",
    category: sign < 0 ? "dispute" : "dispute_reversal",
    source: made.id,
    description: `${sign < 0 ? "Chargeback withdrawal" : "Chargeback reversal"} for ${idOf(made.charge)}`,
  });
}
