import { Stripe } from "stripe";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createStripe, errorOf, linkOrder, monthlyOrder } from "./stripeHelpers.ts";

let simulator: StripeSimulator;
let stripe: Stripe;
beforeAll(async () => {
  simulator = await startStripeSimulator();
  stripe = createStripe(simulator);
});
beforeEach(() => simulator.reset());
afterAll(() => simulator.close());

test("a link is created from inline prices, as requested", async () => {
  const link = await stripe.paymentLinks.create(
    linkOrder({ after_completion: { type: "redirect", redirect: { url: "https://example.com/thanks?a=1&b=2" } } }),
  );
  expect(link).toMatchObject({
    object: "payment_link",
    active: true,
    livemode: false,
    currency: "usd",
    metadata: { request: "request-1" },
    restrictions: { completed_sessions: { count: 0, limit: 1 } },
    after_completion: { type: "redirect", redirect: { url: "https://example.com/thanks?a=1&b=2" } },
  });
  expect(link.id).toMatch(/^plink_1\w{23}$/);
  expect(link.url).toMatch(`${simulator.url}/pay/test_`);
  const { data } = await stripe.paymentLinks.listLineItems(link.id);
  expect(data).toMatchObject([{ object: "item", amount_total: 12_500, description: "Roof inspection", quantity: 1 }]);
  expect(data[0]?.price?.unit_amount_decimal?.toString()).toBe("12500");
});

test("text with brackets, ampersands and other alphabets arrives unchanged", async () => {
  const name = "Dach & Café [größer] = ✓";
  const data = { currency: "eur", product_data: { name }, unit_amount: 100 };
  const link = await stripe.paymentLinks.create({ line_items: [{ price_data: data, quantity: 3 }] });
  const found = await stripe.paymentLinks.retrieve(link.id, { expand: ["line_items"] });
  expect(found.line_items?.data).toMatchObject([{ description: name, amount_total: 300, currency: "eur" }]);
});

test("existing products and prices can be sold", async () => {
  const product = await stripe.products.create({ name: "Gutter guard" });
  const price = await stripe.prices.create({ product: product.id, currency: "usd", unit_amount: 700 });
  const link = await stripe.paymentLinks.create({ line_items: [{ price: price.id, quantity: 2 }] });
  const session = simulator.visit(link.id);
  expect(session).toMatchObject({ amount_total: 1400, mode: "payment" });
  const expanded = await stripe.checkout.sessions.retrieve(session?.id ?? "", {
    expand: ["line_items.data.price.product"],
  });
  expect(expanded.line_items?.data[0]?.price?.product).toMatchObject({ id: product.id, name: "Gutter guard" });
});

test("a link is switched off and on, and its metadata changed key by key; each change is reported once", async () => {
  const link = await stripe.paymentLinks.create(linkOrder({ metadata: { a: "1", b: "2" } }));
  expect(await stripe.paymentLinks.update(link.id, { active: false })).toMatchObject({ active: false });
  await stripe.paymentLinks.update(link.id, { active: false });
  const updated = await stripe.paymentLinks.update(link.id, { metadata: { a: "", c: "3" } });
  expect(updated.metadata).toEqual({ b: "2", c: "3" });
  expect(simulator.events("payment_link.updated").toReversed()).toMatchObject([
    { data: { object: { active: false }, previous_attributes: { active: true } } },
    { data: { previous_attributes: { metadata: { a: "1", b: "2" } } } },
  ]);
});

test("links are listed newest first, in pages, all or only the active ones", async () => {
  const made: string[] = [];
  for (let n = 0; n < 5; n++) made.unshift((await stripe.paymentLinks.create(linkOrder())).id);
  await stripe.paymentLinks.update(made[1] ?? "", { active: false });
  const page = await stripe.paymentLinks.list({ limit: 2 });
  expect(page).toMatchObject({ object: "list", has_more: true, url: "/v1/payment_links" });
  const all: string[] = [];
  for await (const link of stripe.paymentLinks.list({ limit: 2, active: true })) all.push(link.id);
  expect(all).toEqual(made.filter((id) => id !== made[1]));
  const back = await stripe.paymentLinks.list({ limit: 2, ending_before: made[4] ?? "" });
  expect(back.data.map(({ id }) => id)).toEqual([made[2], made[3]]);
});

const oneLine = (data: object): object => ({ line_items: [{ price_data: data, quantity: 1 }] });
const price = { currency: "usd", product_data: { name: "x" }, unit_amount: 100 };

test.each([
  [{}, "parameter_missing", "line_items"],
  [{ ...linkOrder(), colour: "red" }, "parameter_unknown", "colour"],
  [oneLine({ ...price, weight: 3 }), "parameter_unknown", "line_items[0][price_data][weight]"],
  [oneLine({ ...price, unit_amount: 1.5 }), "parameter_invalid_integer", "line_items[0][price_data][unit_amount]"],
  [oneLine({ ...price, unit_amount: -5 }), "parameter_invalid_integer", "line_items[0][price_data][unit_amount]"],
  [oneLine({ ...price, currency: "dollars" }), undefined, "line_items[0][price_data][currency]"],
  [oneLine({ currency: "usd", unit_amount: 1 }), undefined, "line_items[0][price_data]"],
  [
    oneLine({ ...price, product_data: { description: "x" } }),
    "parameter_missing",
    "line_items[0][price_data][product_data][name]",
  ],
  [oneLine({ ...price, unit_amount: 100_000_000 }), "amount_too_large", "line_items"],
  [{ line_items: [{ quantity: 1, price: "price_none" }] }, "resource_missing", "line_items[0][price]"],
  [linkOrder({ after_completion: { type: "redirect" } }), "parameter_missing", "after_completion[redirect]"],
  [
    linkOrder({ restrictions: { completed_sessions: { limit: 0 } } }),
    "parameter_invalid_integer",
    "restrictions[completed_sessions][limit]",
  ],
  [linkOrder({ metadata: { long: "x".repeat(501) } }), undefined, "metadata[long]"],
  [linkOrder({ subscription_data: { description: "x" } }), undefined, "subscription_data"],
  [monthlyOrder({ payment_intent_data: { description: "x" } }), undefined, "payment_intent_data"],
])("an invalid order is refused, with the parameter: %#", async (order, code, param) => {
  const error = await errorOf(stripe.paymentLinks.create(order as Stripe.PaymentLinkCreateParams));
  expect(error).toBeInstanceOf(Stripe.errors.StripeInvalidRequestError);
  expect(error).toMatchObject({ statusCode: 400, code, param });
  expect(error.requestId).toMatch(/^req_/);
  // A refused order leaves nothing behind.
  expect(simulator.stats).toMatchObject({ links: 0, events: 0, refused: 1 });
});

test("a missing object and an invalid key give different errors", async () => {
  expect(await errorOf(stripe.paymentLinks.retrieve("plink_none"))).toMatchObject({
    statusCode: 404,
    code: "resource_missing",
    message: "No such payment_link: 'plink_none'",
  });
  const stranger = createStripe(simulator, { key: "sk_test_stranger_key" });
  const error = await errorOf(stranger.paymentLinks.create(linkOrder()));
  expect(error).toBeInstanceOf(Stripe.errors.StripeAuthenticationError);
  expect(error.message).toBe("Invalid API Key provided: sk_test_********_key");
  expect(simulator.stats.links).toBe(0);
});

test("another key is another account: its links are invisible to others", async () => {
  await using own = await startStripeSimulator();
  own.addAccount("sk_test_harbor");
  const [ours, theirs] = [createStripe(own), createStripe(own, { key: "sk_test_harbor" })];
  const link = await theirs.paymentLinks.create(linkOrder());
  expect((await ours.paymentLinks.list()).data).toEqual([]);
  expect(await errorOf(ours.paymentLinks.update(link.id, { active: false }))).toMatchObject({ statusCode: 404 });
  expect((await theirs.paymentLinks.list()).data).toHaveLength(1);
  expect(own.pay(link.url, { email: "ann@example.com" }).outcome).toBe("paid");
  expect((await ours.balance.retrieve()).pending).toMatchObject([{ amount: 0 }]);
  expect((await theirs.balance.retrieve()).pending).toMatchObject([{ amount: 12_500 - 393 }]);
});

test("other body types, versions and paths are refused", async () => {
  const headers = { Authorization: `Bearer ${simulator.secretKey}` };
  const post = (changes: RequestInit): Promise<Response> =>
    fetch(`${simulator.url}/v1/payment_links`, { method: "POST", body: "a=1", ...changes });
  const json = { ...headers, "Content-Type": "application/json" };
  expect((await post({ headers: json, body: "{}" })).status).toBe(400);
  expect((await post({ headers: { ...headers, "Stripe-Version": "2019-01-01" } })).status).toBe(400);
  expect((await post({ headers: {} })).status).toBe(401);
  expect((await fetch(`${simulator.url}/v1/teleporters`, { headers })).status).toBe(404);
});
