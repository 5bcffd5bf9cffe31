import { Stripe } from "stripe";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createStripe, linkOrder, monthlyOrder, typesOf } from "./stripeHelpers.ts";

const DAY_MS = 86_400_000;
const ann = { email: "ann@example.com", name: "Ann Miller" };

let simulator: StripeSimulator;
let stripe: Stripe;
beforeAll(async () => {
  simulator = await startStripeSimulator();
  stripe = createStripe(simulator);
});
beforeEach(() => simulator.reset());
afterAll(() => simulator.close());

test("a payment appears in its session, payment intent, charge and events", async () => {
  const link = await stripe.paymentLinks.create(linkOrder({ payment_intent_data: { metadata: { lead: "7" } } }));
  const { outcome, session } = simulator.pay(link.url, ann);
  expect(outcome).toBe("paid");
  const [found] = (
    await stripe.checkout.sessions.list({ payment_link: link.id, expand: ["data.payment_intent.latest_charge"] })
  ).data;
  expect(found).toMatchObject({
    id: session?.id,
    status: "complete",
    payment_status: "paid",
    amount_total: 12_500,
    metadata: { request: "request-1" },
    customer_details: { email: "ann@example.com", name: "Ann Miller" },
    payment_intent: {
      status: "succeeded",
      metadata: { lead: "7" },
      latest_charge: { status: "succeeded", paid: true, amount_captured: 12_500 },
    },
  });
  expect(typesOf(simulator).slice(-5)).toEqual([
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "checkout.session.completed",
    "payment_link.updated",
  ]);
});

test("an event has the object as it was then, and is available in the API", async () => {
  const link = await stripe.paymentLinks.create(linkOrder());
  simulator.pay(link.id, ann);
  simulator.refund(link.id);
  const { data } = await stripe.events.list({ type: "charge.succeeded" });
  expect(data).toMatchObject([{ api_version: "2026-10-28.endive", data: { object: { amount_refunded: 0 } } }]);
  const made = await stripe.events.list({ types: ["payment_link.created"] });
  expect(made.data).toMatchObject([{ request: { id: link.lastResponse.requestId } }]);
});

test("a single-use link is refused the second time; one that is switched off, the first time", async () => {
  const once = await stripe.paymentLinks.create(linkOrder({ inactive_message: "Already paid." }));
  expect(simulator.pay(once.url, ann).outcome).toBe("paid");
  expect(simulator.pay(once.url, ann)).toMatchObject({ outcome: "refused", reason: "Already paid.", session: null });
  expect(await stripe.paymentLinks.retrieve(once.id)).toMatchObject({
    active: false,
    restrictions: { completed_sessions: { count: 1, limit: 1 } },
  });
  const off = await stripe.paymentLinks.create(linkOrder());
  await stripe.paymentLinks.update(off.id, { active: false });
  expect(simulator.pay(off.url, ann).outcome).toBe("refused");
  expect(simulator.stats.payments).toBe(1);
});

test("a link without a limit can be paid again and again", async () => {
  const { restrictions: _, ...order } = linkOrder();
  const link = await stripe.paymentLinks.create(order);
  for (let n = 0; n < 3; n++) expect(simulator.pay(link.url, ann).outcome).toBe("paid");
  expect(simulator.events("checkout.session.completed")).toHaveLength(3);
});

test("a declined card leaves the link open for another attempt", async () => {
  const link = await stripe.paymentLinks.create(linkOrder());
  const declined = simulator.pay(link.url, { ...ann, card: "declined" });
  expect(declined).toMatchObject({
    outcome: "declined",
    reason: "Your card was declined.",
    session: { status: "open" },
  });
  expect(declined.paymentIntent?.last_payment_error).toMatchObject({ type: "card_error", code: "card_declined" });
  expect(simulator.events("charge.failed")).toHaveLength(1);
  expect(simulator.pay(link.url, ann).outcome).toBe("paid");
});

test("a delayed payment completes the session unpaid, and succeeds days later", async () => {
  const link = await stripe.paymentLinks.create(linkOrder());
  expect(simulator.pay(link.url, { ...ann, card: "async_ok" })).toMatchObject({
    outcome: "processing",
    session: { status: "complete", payment_status: "unpaid" },
    charge: { status: "pending" },
  });
  simulator.advance(2 * DAY_MS);
  expect(simulator.events("checkout.session.async*")).toEqual([]);
  simulator.advance(DAY_MS);
  expect(simulator.events("checkout.session.async*")).toMatchObject([
    { type: "checkout.session.async_payment_succeeded", data: { object: { payment_status: "paid" } } },
  ]);
  expect(simulator.stats.payments).toBe(1);
});

test("a delayed payment that fails is reported once, even if it is settled by hand", async () => {
  const link = await stripe.paymentLinks.create(linkOrder());
  simulator.pay(link.url, { ...ann, card: "async_fail" });
  expect(simulator.settle(link.url)).toBe(1);
  expect(simulator.settle()).toBe(0);
  simulator.advance(5 * DAY_MS);
  expect(simulator.events("checkout.session.async*")).toMatchObject([
    { type: "checkout.session.async_payment_failed", data: { object: { payment_status: "unpaid" } } },
  ]);
  expect(simulator.events("payment_intent.payment_failed")).toHaveLength(1);
});

test("a session that is left without paying expires after a day", async () => {
  const link = await stripe.paymentLinks.create(linkOrder());
  const session = simulator.visit(link.url);
  simulator.advance(DAY_MS);
  expect(simulator.events("checkout.session.expired")).toMatchObject([{ data: { object: { id: session?.id } } }]);
  expect(await stripe.checkout.sessions.list({ payment_link: link.id, status: "expired" })).toMatchObject({
    data: [{ id: session?.id, url: null }],
  });
});

test("a declined first payment does not start the subscription", async () => {
  const link = await stripe.paymentLinks.create(monthlyOrder());
  expect(simulator.pay(link.url, { ...ann, card: "declined" })).toMatchObject({
    outcome: "declined",
    subscription: null,
  });
  expect((await stripe.subscriptions.list()).data).toEqual([]);
});

test("a URL with the tracking parameters of a mail is the same link", async () => {
  const link = await stripe.paymentLinks.create(linkOrder());
  expect(simulator.pay(`${link.url}?prefilled_email=ann%40example.com&utm_source=mail`, ann).outcome).toBe("paid");
  expect(() => simulator.pay("https://buy.stripe.com/test_other", ann)).toThrow("test_other is not");
});
