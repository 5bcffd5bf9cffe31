import { Stripe } from "stripe";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createStripe, monthlyOrder, typesOf } from "./stripeHelpers.ts";

const DAY_MS = 86_400_000;
const ann = { email: "ann@example.com" };
/** 31 January, so that shorter months matter. */
const start = Date.UTC(2026, 0, 31, 10);
const unix = (year: number, month: number, day: number): number => Date.UTC(year, month - 1, day, 10) / 1000;

let now = start;
let simulator: StripeSimulator;
let stripe: Stripe;
beforeAll(async () => {
  simulator = await startStripeSimulator({ now: () => now });
  stripe = createStripe(simulator);
});
beforeEach(() => {
  now = start;
  simulator.reset();
});
afterAll(() => simulator.close());

async function subscribe(card: "ok" | "async_ok" | "async_fail" = "ok"): Promise<string> {
  const link = await stripe.paymentLinks.create(monthlyOrder());
  return simulator.pay(link.url, { ...ann, card }).subscription?.id ?? "";
}

test("the first payment starts a subscription, and the ids link its objects", async () => {
  const id = await subscribe();
  const subscription = await stripe.subscriptions.retrieve(id, { expand: ["latest_invoice.payments"] });
  expect(subscription).toMatchObject({
    status: "active",
    metadata: { request: "request-1" },
    items: { data: [{ current_period_start: unix(2026, 1, 31), current_period_end: unix(2026, 2, 28) }] },
    latest_invoice: {
      status: "paid",
      amount_paid: 4900,
      billing_reason: "subscription_create",
      parent: { subscription_details: { subscription: id, metadata: { request: "request-1" } } },
      payments: { data: [{ status: "paid", payment: { type: "payment_intent" } }] },
    },
  });
  expect(typesOf(simulator).slice(3)).toEqual([
    "customer.created",
    "payment_method.attached",
    "customer.subscription.created",
    "invoice.created",
    "invoice.finalized",
    "payment_intent.created",
    "charge.succeeded",
    "payment_intent.succeeded",
    "customer.subscription.updated",
    "invoice.paid",
    "invoice.payment_succeeded",
    "invoice_payment.paid",
    "checkout.session.completed",
    "payment_link.updated",
  ]);
});

test("renewals are due on the day of the start, or the month's last day, whenever they are read", async () => {
  const id = await subscribe();
  now = Date.UTC(2026, 4, 1);
  const { data } = await stripe.invoices.list({ subscription: id });
  expect(data.map(({ created }) => created)).toEqual([
    unix(2026, 4, 30),
    unix(2026, 3, 31),
    unix(2026, 2, 28),
    unix(2026, 1, 31),
  ]);
  expect(data.every(({ status }) => status === "paid")).toBe(true);
  expect(new Set(data.map(({ number }) => number)).size).toBe(4);
  expect(simulator.events("invoice.paid").map(({ created }) => created)).toEqual(data.map(({ created }) => created));
  const { items } = await stripe.subscriptions.retrieve(id);
  expect(items.data[0]?.current_period_end).toBe(unix(2026, 5, 31));
});

test("a renewal that fails is past due, and is retried until it succeeds", async () => {
  const id = await subscribe();
  simulator.failPayments(id, 2);
  now = Date.UTC(2026, 2, 1);
  await simulator.flushEvents();
  expect(await stripe.subscriptions.retrieve(id)).toMatchObject({ status: "past_due" });
  const [open] = (await stripe.invoices.list({ status: "open" })).data;
  expect(open).toMatchObject({ attempt_count: 1, amount_remaining: 4900, next_payment_attempt: unix(2026, 3, 3) });
  now = Date.UTC(2026, 2, 10);
  expect(await stripe.subscriptions.retrieve(id)).toMatchObject({ status: "active" });
  expect(simulator.events("invoice.payment_failed").map(({ data }) => data.object)).toMatchObject([
    { attempt_count: 2 },
    { attempt_count: 1 },
  ]);
  expect(await stripe.invoices.retrieve(open?.id ?? "")).toMatchObject({ status: "paid", attempt_count: 3 });
});

test("a renewal that keeps failing ends the subscription, and no more follow", async () => {
  const id = await subscribe();
  simulator.failPayments(id, 99);
  now = Date.UTC(2026, 5, 1);
  expect(await stripe.subscriptions.retrieve(id)).toMatchObject({
    status: "canceled",
    ended_at: unix(2026, 3, 15),
    cancellation_details: { reason: "payment_failed" },
  });
  expect(simulator.events("invoice.payment_failed")).toHaveLength(4);
  expect(simulator.events("customer.subscription.deleted")).toHaveLength(1);
  expect((await stripe.invoices.list({ subscription: id })).data).toHaveLength(2);
  expect((await stripe.subscriptions.list()).data).toEqual([]);
  expect((await stripe.subscriptions.list({ status: "all" })).data).toHaveLength(1);
});

test("a subscription that is cancelled at period end runs until then, and this can be undone", async () => {
  const id = await subscribe();
  expect(await stripe.subscriptions.update(id, { cancel_at_period_end: true })).toMatchObject({
    status: "active",
    cancel_at: unix(2026, 2, 28),
  });
  await stripe.subscriptions.update(id, { cancel_at_period_end: false });
  simulator.cancel(id, { atPeriodEnd: true });
  now = Date.UTC(2026, 3, 1);
  expect(await stripe.subscriptions.retrieve(id)).toMatchObject({ status: "canceled", ended_at: unix(2026, 2, 28) });
  expect(simulator.events("invoice.paid")).toHaveLength(1);
});

test("a subscription that is cancelled immediately ends immediately", async () => {
  const id = await subscribe();
  expect(await stripe.subscriptions.cancel(id)).toMatchObject({ status: "canceled", ended_at: start / 1000 });
  await stripe.subscriptions.cancel(id);
  expect(simulator.events("customer.subscription.deleted")).toHaveLength(1);
});

test("a first payment by direct debit is paid, or fails and is retried, days later", async () => {
  const paid = await subscribe("async_ok");
  const failed = await subscribe("async_fail");
  expect(simulator.events("invoice.paid")).toEqual([]);
  now = start + 4 * DAY_MS;
  expect(await stripe.subscriptions.retrieve(paid)).toMatchObject({ status: "active" });
  expect(await stripe.subscriptions.retrieve(failed)).toMatchObject({ status: "past_due" });
  expect(simulator.events("checkout.session.async*").map(({ type }) => type)).toEqual([
    "checkout.session.async_payment_failed",
    "checkout.session.async_payment_succeeded",
  ]);
  expect(simulator.events("invoice.*").map(({ type }) => type)).toContain("invoice.payment_failed");
});

test("advance moves only the simulator's clock, not other clocks or the times of signatures", async () => {
  const id = await subscribe();
  simulator.advance(31 * DAY_MS);
  expect((await stripe.invoices.list({ subscription: id })).data).toHaveLength(2);
  expect(simulator.clock.wall).toBe(start / 1000);
  expect(() => simulator.advance(-1)).toThrow("expected 0 ms or more");
});
