// Parameters that create or change a payment link, the rules that Stripe documents for them, and the resulting link.
import { z } from "zod";
import type { Account } from "../account.ts";
import { invalid } from "../errors.ts";
import { newId } from "../ids.ts";
import { modeOf, newLink } from "../objects/link.ts";
import { currency, emptyable, flag, list, mergeMetadata, metadata, positive, shape, text, url } from "../params.ts";
import type { Item, Objects } from "../types.ts";
import { lineItem } from "./catalog.ts";

type Link = Objects["payment_link"];

const afterCompletion = z.strictObject({
  type: z.enum(["hosted_confirmation", "redirect"]),
  hosted_confirmation: z.strictObject({ custom_message: text.optional() }).optional(),
  redirect: z.strictObject({ url }).optional(),
});
const restrictions = z.strictObject({ completed_sessions: z.strictObject({ limit: positive }) });
const intentData = z.strictObject({ description: text.optional(), metadata: metadata.optional() });
const subscriptionData = z.strictObject({ description: text.optional(), metadata: metadata.optional() });

const fields = {
  after_completion: afterCompletion.optional(),
  allow_promotion_codes: flag.optional(),
  billing_address_collection: z.enum(["auto", "required"]).optional(),
  customer_creation: z.enum(["always", "if_required"]).optional(),
  metadata: metadata.optional(),
  payment_intent_data: intentData.optional(),
  phone_number_collection: z.strictObject({ enabled: flag }).optional(),
  submit_type: z.enum(["auto", "book", "donate", "pay", "subscribe"]).optional(),
  subscription_data: subscriptionData.optional(),
};
export const creation = shape({
  ...fields,
  currency: currency.optional(),
  inactive_message: z.string().max(500).optional(),
  line_items: list(lineItem, 20),
  restrictions: restrictions.optional(),
});
export const update = shape({
  ...fields,
  active: flag.optional(),
  inactive_message: emptyable(z.string().max(500)).optional(),
  restrictions: emptyable(restrictions).optional(),
});

type Order = z.output<typeof creation>;

/** Throws if parameters that are each valid contradict each other. */
export function checkOrder(account: Account, order: Order): void {
  const prices = order.line_items.map(({ price, price_data: data, quantity }) => {
    const known = price === undefined ? null : account.store.get("price", price);
    return {
      currency: known?.currency ?? data?.currency,
      recurring: (known?.recurring ?? data?.recurring ?? null) !== null,
      amount: (known?.unit_amount ?? data?.unit_amount ?? 0) * quantity,
    };
  });
  const currencies = new Set(prices.map((each) => each.currency));
  if (order.currency !== undefined) currencies.add(order.currency);
  if (currencies.size > 1) {
    throw invalid("All prices on a payment link must have the same currency.", "line_items");
  }
  if (prices.reduce((sum, { amount }) => sum + amount, 0) > 99_999_999) {
    throw invalid("Amount must be no more than $999,999.99", "line_items", "amount_too_large");
  }
  const recurring = prices.some((each) => each.recurring);
  if (recurring && order.payment_intent_data !== undefined) {
    throw invalid("You can not pass `payment_intent_data` in `subscription` mode.", "payment_intent_data");
  }
  if (!recurring && order.subscription_data !== undefined) {
    throw invalid("You can not pass `subscription_data` in `payment` mode.", "subscription_data");
  }
  if (order.after_completion?.type === "redirect" && order.after_completion.redirect === undefined) {
    throw invalid(
      "Missing required param: after_completion[redirect].",
      "after_completion[redirect]",
      "parameter_missing",
    );
  }
}

export function linkOf(account: Account, items: readonly Item[], order: Order): Link {
  const recurring = modeOf(items) === "subscription";
  return newLink({
    url: `${account.world.url()}/pay/${newId("link_code")}`,
    recurring,
    currency: items[0]?.currency ?? "usd",
    after_completion: completionOf(order.after_completion),
    allow_promotion_codes: order.allow_promotion_codes ?? false,
    billing_address_collection: order.billing_address_collection ?? "auto",
    customer_creation: order.customer_creation ?? (recurring ? "always" : "if_required"),
    inactive_message: order.inactive_message ?? null,
    metadata: { ...order.metadata },
    payment_intent_data: recurring || order.payment_intent_data === undefined ? null : intentDataOf(order),
    phone_number_collection: order.phone_number_collection ?? { enabled: false },
    restrictions: order.restrictions === undefined ? null : restrict(order.restrictions.completed_sessions.limit, 0),
    submit_type: order.submit_type ?? "auto",
    subscription_data: recurring ? subscriptionDataOf(order) : null,
  });
}

function completionOf(order: Order["after_completion"]): Link["after_completion"] {
  if (order?.type === "redirect") return { redirect: { url: order.redirect?.url ?? "" }, type: "redirect" };
  const message = order?.hosted_confirmation?.custom_message ?? null;
  return { hosted_confirmation: { custom_message: message }, type: "hosted_confirmation" };
}

function restrict(limit: number, count: number): Link["restrictions"] {
  return { completed_sessions: { count, limit } };
}

function intentDataOf({ payment_intent_data: data }: Pick<Order, "payment_intent_data">): Link["payment_intent_data"] {
  return {
    capture_method: null,
    description: data?.description ?? null,
    metadata: { ...data?.metadata },
    setup_future_usage: null,
    statement_descriptor: null,
    statement_descriptor_suffix: null,
    transfer_group: null,
  };
}

function subscriptionDataOf({ subscription_data: data }: Pick<Order, "subscription_data">): Link["subscription_data"] {
  return {
    description: data?.description ?? null,
    invoice_settings: {
      account_tax_ids: null,
      custom_fields: null,
      description: null,
      footer: null,
      issuer: { type: "self" },
    },
    metadata: { ...data?.metadata },
    trial_period_days: null,
    trial_settings: { end_behavior: { missing_payment_method: "create_invoice" } },
  };
}

export function changesOf(link: Link, order: z.output<typeof update>): Partial<Link> {
  const { active, metadata: pairs, restrictions: limits, inactive_message: message } = order;
  const count = link.restrictions?.completed_sessions.count ?? 0;
  return {
    ...(active === undefined || active === link.active ? {} : { active }),
    ...(pairs === undefined ? {} : { metadata: mergeMetadata(link.metadata, pairs) }),
    ...(message === undefined ? {} : { inactive_message: message }),
    ...(limits === undefined
      ? {}
      : { restrictions: limits === null ? null : restrict(limits.completed_sessions.limit, count) }),
    ...(order.after_completion === undefined ? {} : { after_completion: completionOf(order.after_completion) }),
    ...(order.allow_promotion_codes === undefined ? {} : { allow_promotion_codes: order.allow_promotion_codes }),
    ...(order.billing_address_collection === undefined
      ? {}
      : { billing_address_collection: order.billing_address_collection }),
    ...(order.customer_creation === undefined ? {} : { customer_creation: order.customer_creation }),
    ...(order.phone_number_collection === undefined ? {} : { phone_number_collection: order.phone_number_collection }),
    ...(order.submit_type === undefined ? {} : { submit_type: order.submit_type }),
    ...(order.payment_intent_data === undefined ? {} : { payment_intent_data: intentDataOf(order) }),
    ...(order.subscription_data === undefined ? {} : { subscription_data: subscriptionDataOf(order) }),
  };
}
