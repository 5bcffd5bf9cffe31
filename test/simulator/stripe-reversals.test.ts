import { Stripe } from "stripe";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createStripe, errorOf, linkOrder, monthlyOrder, typesOf } from "./stripeHelpers.ts";

const ann = { email: "ann@example.com" };

let simulator: StripeSimulator;
let stripe: Stripe;
beforeAll(async () => {
  simulator = await startStripeSimulator();
  stripe = createStripe(simulator);
});
beforeEach(() => simulator.reset());
afterAll(() => simulator.close());

async function paidLink(): Promise<{ url: string; charge: string; intent: string }> {
  const { url } = await stripe.paymentLinks.create(linkOrder());
  const { charge, paymentIntent } = simulator.pay(url, ann);
  return { url, charge: charge?.id ?? "", intent: paymentIntent?.id ?? "" };
}

test("a refund by the API is reported as its own object and as the charge's total", async () => {
  const { charge, intent } = await paidLink();
  const refund = await stripe.refunds.create({ payment_intent: intent, amount: 2500, reason: "requested_by_customer" });
  expect(refund).toMatchObject({ amount: 2500, charge, payment_intent: intent, status: "succeeded" });
  expect(typesOf(simulator).slice(-2)).toEqual(["refund.created", "charge.refunded"]);
  expect(simulator.events("charge.refunded")).toMatchObject([
    { data: { object: { amount_refunded: 2500, refunded: false }, previous_attributes: { amount_refunded: 0 } } },
  ]);
  await stripe.refunds.create({ charge });
  expect(await stripe.charges.retrieve(charge, { expand: ["refunds"] })).toMatchObject({
    amount_refunded: 12_500,
    refunded: true,
    refunds: { data: [{ amount: 10_000 }, { amount: 2500 }] },
  });
  expect(await errorOf(stripe.refunds.create({ charge }))).toMatchObject({ code: "charge_already_refunded" });
});

test("more than the remaining amount cannot be refunded", async () => {
  const { charge, url } = await paidLink();
  expect(await errorOf(stripe.refunds.create({ charge, amount: 12_501 }))).toMatchObject({
    statusCode: 400,
    param: "amount",
  });
  expect(() => simulator.refund(url, { amount: 12_501 })).toThrow("greater than unrefunded amount");
  expect(await errorOf(stripe.refunds.create({ charge: "ch_none" }))).toMatchObject({ code: "resource_missing" });
  expect(await errorOf(stripe.refunds.create({}))).toMatchObject({ statusCode: 400 });
  expect((await stripe.refunds.list()).data).toEqual([]);
});

test("a refund that fails is reversed", async () => {
  const { url, charge } = await paidLink();
  const refund = simulator.refund(url);
  simulator.failRefund(refund.id);
  expect(typesOf(simulator).slice(-3)).toEqual(["refund.updated", "charge.refund.updated", "refund.failed"]);
  expect(await stripe.refunds.retrieve(refund.id)).toMatchObject({
    status: "failed",
    failure_reason: "lost_or_stolen_card",
  });
  expect(await stripe.charges.retrieve(charge)).toMatchObject({ amount_refunded: 0, refunded: false });
  expect(() => simulator.failRefund(refund.id)).toThrow("has already failed");
});

test.each([
  ["won", ["charge.dispute.closed", "charge.dispute.funds_reinstated"], 0],
  ["lost", ["charge.dispute.closed"], -12_500 - 1500],
] as const)("a dispute withdraws the amount and a fee, and is final once %s", async (verdict, types, net) => {
  const { url } = await paidLink();
  const before = await pending();
  const dispute = simulator.dispute(url, { reason: "product_not_received" });
  expect(dispute).toMatchObject({ status: "needs_response", amount: 12_500, reason: "product_not_received" });
  expect(typesOf(simulator).slice(-2)).toEqual(["charge.dispute.created", "charge.dispute.funds_withdrawn"]);
  expect((await pending()) - before).toBe(-14_000);
  simulator.closeDispute(dispute.id, verdict);
  expect(typesOf(simulator).slice(-types.length)).toEqual(types);
  expect((await pending()) - before).toBe(net);
  expect(await stripe.disputes.retrieve(dispute.id)).toMatchObject({ status: verdict });
  expect(() => simulator.closeDispute(dispute.id, "won")).toThrow("already closed");
});

test("an inquiry withdraws no money, and a disputed charge is not refunded", async () => {
  const { url, charge } = await paidLink();
  const before = await pending();
  const inquiry = simulator.dispute(url, { inquiry: true });
  expect(inquiry.status).toBe("warning_needs_response");
  expect(simulator.events("charge.dispute.funds*")).toEqual([]);
  expect(await errorOf(stripe.refunds.create({ charge }))).toMatchObject({ code: "charge_disputed" });
  simulator.closeDispute(inquiry.id, "lost");
  expect(inquiry.status).toBe("warning_closed");
  expect(await pending()).toBe(before);
});

test("closing a dispute by the API loses it", async () => {
  const { url } = await paidLink();
  const { id } = simulator.dispute(url);
  expect(await stripe.disputes.close(id)).toMatchObject({ status: "lost" });
});

test("a payment is found by any related id", async () => {
  const link = await stripe.paymentLinks.create(monthlyOrder());
  const { session, invoice, subscription, paymentIntent, charge } = simulator.pay(link.url, ann);
  const targets = [link.id, link.url, session?.id, invoice?.id, subscription?.id, paymentIntent?.id, charge?.id];
  for (const target of targets) {
    expect(simulator.refund(target ?? "", { amount: 100 }).charge).toBe(charge?.id);
  }
  expect(() => simulator.refund("ch_none")).toThrow("ch_none is not");
});

/** The pending balance, in cents. */
async function pending(): Promise<number> {
  return (await stripe.balance.retrieve()).pending[0]?.amount ?? 0;
}
