// Actions of people, called by tests, the demo or the control endpoints. Each finds the account from its target.
import type { Account } from "./account.ts";
import { cancelAtEnd } from "./api/billing.ts";
import { pay, type Payment, visit } from "./acts/checkout.ts";
import { closeDispute, dispute, failRefund, refund } from "./acts/reverse.ts";
import { endSubscription } from "./acts/subscribe.ts";
import type { Clock } from "./clock.ts";
import type { Payer } from "./objects/payer.ts";
import { chargeOf, knows, linkOf, subscriptionOf } from "./targets.ts";
import { idOf, type Objects, type StripeEvent } from "./types.ts";

export class People {
  readonly #accounts: ReadonlyMap<string, Account>;
  readonly #clock: Clock;

  constructor(accounts: ReadonlyMap<string, Account>, clock: Clock) {
    this.#accounts = accounts;
    this.#clock = clock;
  }

  /** Pays by a link, given by URL or id. An inactive or used-up link results in the outcome `refused`. */
  pay(link: string, payer: Payer): Payment {
    const account = this.#accountOf(link);
    return pay(account, found(linkOf(account, link), link, "a payment link's url or id"), payer);
  }

  /** Opens the link and leaves; the session expires after a day. Null if the link does not accept payments. */
  visit(link: string): Objects["checkout.session"] | null {
    const account = this.#accountOf(link);
    return visit(account, found(linkOf(account, link), link, "a payment link's url or id"));
  }

  /** Delivers the bank's answer to one delayed payment, or to all of them. Returns how many. */
  settle(target?: string): number {
    const accounts = target === undefined ? [...this.#accounts.values()] : [this.#accountOf(target)];
    this.#clock.catchUp();
    let count = 0;
    for (const account of accounts) {
      const only = target === undefined ? null : idOf(chargeOf(account, target)?.payment_intent);
      for (const [intent, answer] of account.pendingPayments) {
        if (target !== undefined && intent !== only) continue;
        answer();
        count++;
      }
    }
    return count;
  }

  /** The merchant refunds the charge around `target`, or `amount` of it. */
  refund(target: string, order: { amount?: number; reason?: Objects["refund"]["reason"] } = {}): Objects["refund"] {
    const account = this.#accountOf(target);
    const charge = found(chargeOf(account, target), target, "something that was paid");
    return refund(account, charge, { amount: order.amount ?? null, reason: order.reason ?? null, metadata: {} });
  }

  /** The payer's bank rejects the refund. */
  failRefund(refundId: string): Objects["refund"] {
    const account = this.#accountOf(refundId);
    const made = found(account.store.get("refund", refundId), refundId, "a refund's id");
    failRefund(account, made);
    return made;
  }

  /** The payer disputes the charge. With `inquiry` the bank only asks, and withdraws nothing yet. */
  dispute(target: string, order: { amount?: number; reason?: string; inquiry?: boolean } = {}): Objects["dispute"] {
    const account = this.#accountOf(target);
    const charge = found(chargeOf(account, target), target, "something that was paid");
    const { amount = null, reason = "fraudulent", inquiry = false } = order;
    return dispute(account, charge, { amount, reason, inquiry });
  }

  /** The bank decides. An inquiry is closed with either verdict. */
  closeDispute(disputeId: string, verdict: "won" | "lost"): Objects["dispute"] {
    const account = this.#accountOf(disputeId);
    const made = found(account.store.get("dispute", disputeId), disputeId, "a dispute's id");
    closeDispute(account, made, verdict);
    return made;
  }

  /** The merchant deactivates a link in the dashboard. */
  deactivate(link: string): Objects["payment_link"] {
    const account = this.#accountOf(link);
    const known = found(linkOf(account, link), link, "a payment link's url or id");
    if (known.active) account.change("payment_link.updated", known, { active: false });
    return known;
  }

  /** Makes the next payments of the subscription fail: renewals and their retries. */
  failPayments(target: string, times = 1): void {
    const account = this.#accountOf(target);
    account.failures.set(found(subscriptionOf(account, target), target, "a subscription").id, times);
  }

  /** The customer cancels: now, or at the end of the current period. */
  cancel(target: string, order: { atPeriodEnd?: boolean } = {}): Objects["subscription"] {
    const account = this.#accountOf(target);
    const subscription = found(subscriptionOf(account, target), target, "a subscription");
    if (order.atPeriodEnd === true) cancelAtEnd(account, subscription, true);
    else endSubscription(account, subscription, "cancellation_requested");
    return subscription;
  }

  /** Sends an event again, as Resend in the dashboard does; it is posted by the next flush. */
  resend(eventId: string): StripeEvent {
    const account = this.#accountOf(eventId);
    const event = found(account.store.get("event", eventId), eventId, "an event's id");
    account.resend(event);
    return event;
  }

  #accountOf(target: string): Account {
    this.#clock.catchUp();
    const account = [...this.#accounts.values()].find((each) => knows(each, target));
    return found(account ?? null, target, "an id, or a payment link's url, of an account here");
  }
}

function found<T>(value: T | null, target: string, what: string): T {
  if (value === null) throw new Error(`${target} is not ${what}; links() and events() list what exists`);
  return value;
}
