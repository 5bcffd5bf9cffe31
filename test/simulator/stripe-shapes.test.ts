// Every object that the simulator emits, in responses and in events, has the fields of Stripe's own fixture of it, with
// values of the same types. The fixtures are those of the objects here, from fixtures3.json of github.com/stripe/openapi
// (MIT).
import { expect, test } from "vitest";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import fixtures from "./stripe.fixtures.json" with { type: "json" };
import { createStripe, linkOrder, monthlyOrder } from "./stripeHelpers.ts";

type Json = null | string | number | boolean | Json[] | { [name: string]: Json };
type JsonObject = { [name: string]: Json };

/**
 * All differences that are allowed. `unknown`: the fixture does not have the field, because it is older or shows another
 * case; the SDK's types, which the code is compiled against, have it.
 */
const known: readonly string[] = [
  "charge.outcome.risk_level: unknown",
  "charge.outcome.risk_score: unknown",
  "charge.payment_method_details.card.electronic_commerce_indicator: unknown",
  "charge.payment_method_details.us_bank_account: unknown",
  "charge.radar_options: unknown",
  "dispute.evidence_details.submission_method: unknown",
  "dispute.intended_submission_method: unknown",
  "event.data.previous_attributes: unknown",
  "invoice_payment.payment.payment_intent: unknown",
  "line_item.pricing.price_details: unknown",
  "payment_intent.allowed_payment_method_types: unknown",
  "payment_intent.last_payment_error.charge: unknown",
  "payment_intent.last_payment_error.code: unknown",
  "payment_intent.last_payment_error.decline_code: unknown",
  "payment_intent.last_payment_error.doc_url: unknown",
  "payment_intent.last_payment_error.message: unknown",
  "payment_intent.last_payment_error.payment_method: unknown",
  "payment_intent.payment_record: unknown",
  "payment_link.subscription_data.invoice_settings.account_tax_ids: unknown",
  "payment_link.subscription_data.invoice_settings.custom_fields: unknown",
  "payment_link.subscription_data.invoice_settings.description: unknown",
  "payment_link.subscription_data.invoice_settings.footer: unknown",
  "payment_method.us_bank_account: unknown",
  "checkout.session.allowed_payment_method_types: unknown",
  "product.tax_details: unknown",
  "refund.destination_details.card.reference_status: unknown",
  "refund.destination_details.card.reference_type: unknown",
  "refund.destination_details.us_bank_transfer: unknown",
  "refund.failure_balance_transaction: unknown",
  "refund.failure_reason: unknown",
  "subscription.cancellation_details.feedback_option: unknown",
  "subscription.trial_settings.end_behavior.billing_cycle_anchor: unknown",
  "subscription_item.current_trial: unknown",
  // Connect only.
  "balance.connect_reserved: missing",
  // Shown only if expanded, since 2022.
  "charge.refunds: missing",
  // Moved to parent.subscription_details in 2025.
  "invoice.subscription: missing",
  // A bank debit has its own fields.
  "charge.payment_method_details.card: missing",
  "payment_method.card: missing",
  "refund.destination_details.card: missing",
];

test("every object matches Stripe's fixture of it", async () => {
  await using simulator = await startStripeSimulator();
  await runEverything(simulator);
  const objects = simulator.events().map(({ data }) => data.object as JsonObject);
  objects.push(...(simulator.events() as unknown as JsonObject[]), ...(await responses(simulator)));
  const kinds = new Set(objects.map(({ object }) => String(object)));
  expect([...kinds].toSorted()).toEqual(
    Object.keys(fixtures)
      .filter((kind) => !nested.has(kind))
      .toSorted(),
  );
  const differences = new Set(objects.flatMap((object) => differencesOf(object, "")));
  expect([...differences].toSorted()).toEqual(known.toSorted());
});

/** Kinds that occur only inside others, and are compared there. */
const nested = new Set(["subscription_item", "plan", "line_item"]);

/** The comparison must be able to find differences. */
test.each([
  ["an extra field", { ...fixtures.refund, colour: "red" }, "refund.colour: unknown"],
  ["a missing field", without(fixtures.refund, "amount"), "refund.amount: missing"],
  ["another type", { ...fixtures.refund, amount: "100" }, "refund.amount: string, not number"],
  ["a nested value", { ...fixtures.charge, billing_details: 7 }, "charge.billing_details: number, not object"],
])("the comparison finds %s", (_what, object, expected) => {
  const found = differencesOf(object as unknown as JsonObject, "");
  expect(found).toEqual([expected]);
});

function without(object: object, name: string): object {
  return Object.fromEntries(Object.entries(object).filter(([key]) => key !== name));
}

function differencesOf(actual: Json, path: string, like?: Json): string[] {
  if (actual === null || like === null) return [];
  if (Array.isArray(actual)) {
    const element = Array.isArray(like) ? like[0] : undefined;
    return actual.flatMap((each) => differencesOf(each, `${path}[]`, element));
  }
  const kind = typeof actual === "object" && typeof actual["object"] === "string" ? actual["object"] : null;
  const own = kind === null ? undefined : (fixtures as unknown as JsonObject)[kind];
  const expected = own ?? like;
  const place = own === undefined ? path : String(kind);
  if (expected === undefined || expected === null) return [];
  if (typeof actual !== typeof expected) return [`${place}: ${typeof actual}, not ${typeof expected}`];
  if (typeof actual !== "object" || typeof expected !== "object" || Array.isArray(expected)) return [];
  return fieldsOf(actual, expected, place);
}

function fieldsOf(actual: JsonObject, expected: JsonObject, place: string): string[] {
  // Maps with free keys, and objects that are empty in the fixture.
  if (place.endsWith(".metadata") || Object.keys(expected).length === 0) return [];
  const unknown = Object.keys(actual).filter((name) => !(name in expected));
  const missing = Object.keys(expected).filter((name) => !(name in actual));
  return [
    ...unknown.map((name) => `${place}.${name}: unknown`),
    ...missing.map((name) => `${place}.${name}: missing`),
    ...Object.entries(actual)
      .filter(([name]) => name in expected)
      .flatMap(([name, value]) => differencesOf(value, `${place}.${name}`, expected[name])),
  ];
}

/** One of everything that can happen to a payment. */
async function runEverything(simulator: StripeSimulator): Promise<void> {
  const stripe = createStripe(simulator);
  const { restrictions: _, ...order } = linkOrder({ customer_creation: "always" });
  const { url } = await stripe.paymentLinks.create({ ...order, payment_intent_data: { description: "x" } });
  const ann = { email: "ann@example.com", name: "Ann" };
  simulator.visit(url);
  for (const card of ["ok", "declined", "async_ok", "async_fail"] as const) simulator.pay(url, { ...ann, card });
  simulator.settle();
  const debit = simulator.pay(url, { ...ann, card: "async_ok" });
  simulator.settle();
  simulator.refund(debit.charge?.id ?? "");
  const { charge } = simulator.pay(url, ann);
  const refund = simulator.refund(charge?.id ?? "", { amount: 100 });
  simulator.failRefund(refund.id);
  simulator.closeDispute(simulator.dispute(url).id, "won");
  simulator.pay(url, ann);
  simulator.closeDispute(simulator.dispute(url, { inquiry: true }).id, "lost");
  const monthly = await stripe.paymentLinks.create(monthlyOrder());
  const debited = await stripe.paymentLinks.create(monthlyOrder());
  simulator.pay(debited.url, { ...ann, card: "async_ok" });
  simulator.pay(monthly.url, ann);
  simulator.failPayments(monthly.url, 2);
  simulator.advance(70 * 86_400_000);
  simulator.cancel(monthly.url, { atPeriodEnd: true });
  simulator.cancel(monthly.url);
  await stripe.webhookEndpoints.create({ url: "https://example.com/hook", enabled_events: ["*"] });
}

/** Objects that appear in no event. */
async function responses(simulator: StripeSimulator): Promise<JsonObject[]> {
  const get = async (path: string): Promise<JsonObject> => {
    const response = await fetch(`${simulator.url}/v1/${path}`, {
      headers: { Authorization: `Bearer ${simulator.secretKey}` },
    });
    expect(response.status).toBe(200);
    return (await response.json()) as JsonObject;
  };
  const list = async (path: string): Promise<JsonObject[]> => (await get(`${path}?limit=100`))["data"] as JsonObject[];
  const paths =
    "payment_links checkout/sessions customers payment_intents charges refunds disputes balance_transactions products prices subscriptions invoices invoice_payments webhook_endpoints";
  const lists = await Promise.all(paths.split(" ").map(list));
  const [link] = simulator.links();
  return [...lists.flat(), ...(await list(`payment_links/${link?.id}/line_items`)), await get("balance")];
}
