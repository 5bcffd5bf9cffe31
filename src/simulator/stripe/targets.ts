// Finds the object around a payment from any related id or from a link's URL.
import type { Account } from "./account.ts";
import { intentOf } from "./acts/invoice.ts";
import { idOf, type Objects } from "./types.ts";

type Charge = Objects["charge"];

/** The link with this id or URL; query and fragment (e.g. a mail's tracking parameters) are ignored. */
export function linkOf(account: Account, target: string): Objects["payment_link"] | null {
  const url = target.split(/[?#]/)[0];
  return (
    account.store.get("payment_link", target) ??
    account.store.all("payment_link").find((each) => each.url === url) ??
    null
  );
}

/** Whether the target belongs to this account. */
export function knows(account: Account, target: string): boolean {
  return account.store.find(target) !== null || linkOf(account, target) !== null;
}

/** The last successful or pending payment around this id; null without one. */
export function chargeOf(account: Account, target: string): Charge | null {
  const { store } = account;
  const byIntent = (intent: string | null): Charge | null =>
    store.get("charge", idOf(store.get("payment_intent", intent)?.latest_charge));
  const byInvoice = (id: string | null): Charge | null => {
    const invoice = store.get("invoice", id);
    return invoice === null ? null : byIntent(intentOf(account, invoice));
  };
  const bySession = (session: Objects["checkout.session"] | null): Charge | null =>
    session === null ? null : (byIntent(idOf(session.payment_intent)) ?? byInvoice(idOf(session.invoice)));

  const link = linkOf(account, target);
  if (link !== null) return bySession(sessionOf(account, link));
  return (
    store.get("charge", target) ??
    store.get("charge", idOf(store.get("refund", target)?.charge)) ??
    store.get("charge", idOf(store.get("dispute", target)?.charge)) ??
    byIntent(target) ??
    byInvoice(target) ??
    byInvoice(idOf(store.get("subscription", target)?.latest_invoice)) ??
    bySession(store.get("checkout.session", target))
  );
}

/** The subscription with this id, or the one that this link or session started. */
export function subscriptionOf(account: Account, target: string): Objects["subscription"] | null {
  const link = linkOf(account, target);
  const session = link === null ? account.store.get("checkout.session", target) : sessionOf(account, link);
  return account.store.get("subscription", session === null ? target : idOf(session.subscription));
}

/** The last completed session of a link. */
function sessionOf(account: Account, link: Objects["payment_link"]): Objects["checkout.session"] | null {
  const sessions = account.store.all("checkout.session");
  return sessions.find((each) => each.payment_link === link.id && each.status === "complete") ?? null;
}
