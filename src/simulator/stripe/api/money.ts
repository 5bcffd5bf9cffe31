// Payments and refunds: sessions, intents, charges, refunds, disputes, the balance.
import { z } from "zod";
import { expire } from "../acts/checkout.ts";
import { closable, closeDispute, refund, refundable } from "../acts/reverse.ts";
import type { Account } from "../account.ts";
import { invalid, missing } from "../errors.ts";
import { mergeMetadata, metadata, positive, read, shape, text } from "../params.ts";
import { idOf, type Objects } from "../types.ts";
import { linesOf, listOf, retrieve, type Routes, theOne } from "./route.ts";

const around = { charge: text.optional(), payment_intent: text.optional() };
const refundOrder = shape({
  ...around,
  amount: positive.optional(),
  metadata: metadata.optional(),
  reason: z.enum(["duplicate", "fraudulent", "requested_by_customer"]).optional(),
});
const metadataOnly = shape({ metadata: metadata.optional() });

/** Whether an object belongs to the requested charge and intent, if given. */
function isAround(
  object: { charge: unknown; payment_intent: unknown },
  asked: z.output<z.ZodObject<typeof around>>,
): boolean {
  const { charge = object.charge, payment_intent: intent = object.payment_intent } = asked;
  return object.charge === charge && object.payment_intent === intent;
}

export const money: Routes = {
  "GET /v1/checkout/sessions": listOf(
    "checkout.session",
    "/v1/checkout/sessions",
    {
      payment_link: text.optional(),
      payment_intent: text.optional(),
      subscription: text.optional(),
      customer: text.optional(),
      status: z.enum(["complete", "expired", "open"]).optional(),
    },
    (session, asked) =>
      session.payment_link === (asked.payment_link ?? session.payment_link) &&
      session.payment_intent === (asked.payment_intent ?? session.payment_intent) &&
      session.subscription === (asked.subscription ?? session.subscription) &&
      session.customer === (asked.customer ?? session.customer) &&
      session.status === (asked.status ?? session.status),
  ),
  "GET /v1/checkout/sessions/:id": retrieve("checkout.session"),
  "GET /v1/checkout/sessions/:id/line_items": linesOf("checkout.session", "/v1/checkout/sessions"),
  "POST /v1/checkout/sessions/:id/expire": (account, form, id) => {
    read(shape({}), form);
    const session = theOne(account, "checkout.session", id);
    if (session.status !== "open") {
      throw invalid(
        `Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of ${session.status}.`,
      );
    }
    return () => {
      expire(account, session);
      return session;
    };
  },
  "GET /v1/customers": listOf("customer", "/v1/customers", { email: text.optional() }, (customer, { email }) => {
    return email === undefined || customer.email === email;
  }),
  "GET /v1/customers/:id": retrieve("customer"),
  "GET /v1/payment_methods/:id": retrieve("payment_method"),
  "GET /v1/payment_intents": listOf(
    "payment_intent",
    "/v1/payment_intents",
    { customer: text.optional() },
    (intent, asked) => {
      return intent.customer === (asked.customer ?? intent.customer);
    },
  ),
  "GET /v1/payment_intents/:id": retrieve("payment_intent"),
  "GET /v1/charges": listOf(
    "charge",
    "/v1/charges",
    { payment_intent: text.optional(), customer: text.optional() },
    (charge, asked) => {
      const { payment_intent: intent = charge.payment_intent, customer = charge.customer } = asked;
      return charge.payment_intent === intent && charge.customer === customer;
    },
  ),
  "GET /v1/charges/:id": retrieve("charge"),
  "GET /v1/refunds": listOf("refund", "/v1/refunds", around, isAround),
  "GET /v1/refunds/:id": retrieve("refund"),
  "POST /v1/refunds": (account, form) => {
    const order = read(refundOrder, form);
    const charge = chargeOf(account, order);
    const amount = refundable(charge, order.amount ?? null);
    return () => refund(account, charge, { amount, reason: order.reason ?? null, metadata: { ...order.metadata } });
  },
  "POST /v1/refunds/:id": (account, form, id) => {
    const made = theOne(account, "refund", id);
    const { metadata: pairs = {} } = read(metadataOnly, form);
    return () => {
      account.change("refund.updated", made, { metadata: mergeMetadata(made.metadata ?? {}, pairs) });
      return made;
    };
  },
  "GET /v1/disputes": listOf("dispute", "/v1/disputes", around, isAround),
  "GET /v1/disputes/:id": retrieve("dispute"),
  "POST /v1/disputes/:id/close": (account, form, id) => {
    read(shape({}), form);
    const made = theOne(account, "dispute", id);
    closable(made);
    // Closing one's own dispute means accepting that it is lost.
    return () => {
      closeDispute(account, made, "lost");
      return made;
    };
  },
  "GET /v1/balance_transactions": listOf(
    "balance_transaction",
    "/v1/balance_transactions",
    { currency: text.optional(), source: text.optional(), type: text.optional() },
    (each, asked) =>
      each.currency === (asked.currency ?? each.currency) &&
      each.source === (asked.source ?? each.source) &&
      each.type === (asked.type ?? each.type),
  ),
  "GET /v1/balance_transactions/:id": retrieve("balance_transaction"),
  "GET /v1/balance": (account, form) => {
    read(shape({}), form);
    return () => balanceOf(account);
  },
};

function chargeOf(account: Account, order: z.output<z.ZodObject<typeof around>>): Objects["charge"] {
  const { charge: chargeId, payment_intent: intentId } = order;
  if (intentId !== undefined) {
    const intent = account.store.get("payment_intent", intentId);
    if (intent === null) throw missing("payment_intent", intentId, "payment_intent");
    const charge = account.store.get("charge", idOf(intent.latest_charge));
    if (charge !== null) return charge;
    throw invalid(`This PaymentIntent (${intentId}) does not have a successful charge to refund.`, "payment_intent");
  }
  if (chargeId === undefined) {
    throw invalid("One of the following params should be provided for this request: payment_intent or charge.");
  }
  const charge = account.store.get("charge", chargeId);
  if (charge === null) throw missing("charge", chargeId, "charge");
  return charge;
}

/** The balance by currency: available and pending. */
function balanceOf(account: Account): object {
  const movements = account.store.all("balance_transaction");
  const sum = (status: string): object[] => {
    const nets = new Map<string, number>([["usd", 0]]);
    for (const each of movements) {
      nets.set(each.currency, (nets.get(each.currency) ?? 0) + (each.status === status ? each.net : 0));
    }
    return [...nets].map(([currency, amount]) => ({ amount, currency, source_types: { card: amount } }));
  };
  return { object: "balance", available: sum("available"), livemode: false, pending: sum("pending") };
}
