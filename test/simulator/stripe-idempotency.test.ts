import { Stripe } from "stripe";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createStripe, errorOf, linkOrder } from "./stripeHelpers.ts";

let simulator: StripeSimulator;
let stripe: Stripe;
beforeAll(async () => {
  simulator = await startStripeSimulator();
  stripe = createStripe(simulator);
});
beforeEach(() => simulator.reset());
afterAll(() => simulator.close());

const idempotencyKey = "payment_request:1";

test("the same key and the same order create one link, and return it again", async () => {
  const first = await stripe.paymentLinks.create(linkOrder(), { idempotencyKey });
  const again = await stripe.paymentLinks.create(linkOrder(), { idempotencyKey });
  expect(again.id).toBe(first.id);
  expect(first.lastResponse.headers["idempotent-replayed"]).toBeUndefined();
  expect(again.lastResponse.headers).toMatchObject({
    "idempotent-replayed": "true",
    "original-request": first.lastResponse.requestId,
    "idempotency-key": idempotencyKey,
  });
  expect(again.lastResponse.requestId).not.toBe(first.lastResponse.requestId);
  expect(simulator.stats).toMatchObject({ links: 1, accepted: 1, replayed: 1 });
});

test("the replayed response is the original one, even if the link has changed since", async () => {
  const link = await stripe.paymentLinks.create(linkOrder(), { idempotencyKey });
  await stripe.paymentLinks.update(link.id, { active: false });
  expect(await stripe.paymentLinks.create(linkOrder(), { idempotencyKey })).toMatchObject({ active: true });
});

test("a repetition is replayed even if the order would be refused by now", async () => {
  const link = await stripe.paymentLinks.create(linkOrder());
  const order = { charge: simulator.pay(link.url, { email: "ann@example.com" }).charge?.id ?? "" };
  const first = await stripe.refunds.create(order, { idempotencyKey });
  expect((await stripe.refunds.create(order, { idempotencyKey })).id).toBe(first.id);
  expect(await errorOf(stripe.refunds.create(order))).toMatchObject({ code: "charge_already_refunded" });
});

test("the same key is refused with another order, and at another endpoint", async () => {
  const link = await stripe.paymentLinks.create(linkOrder(), { idempotencyKey });
  const other = await errorOf(
    stripe.paymentLinks.create(linkOrder({ metadata: { request: "2" } }), { idempotencyKey }),
  );
  expect(other).toBeInstanceOf(Stripe.errors.StripeIdempotencyError);
  expect(other).toMatchObject({ statusCode: 400, message: expect.stringContaining("same parameters") });
  const elsewhere = await errorOf(stripe.paymentLinks.update(link.id, { active: false }, { idempotencyKey }));
  expect(elsewhere).toBeInstanceOf(Stripe.errors.StripeIdempotencyError);
  expect(simulator.links()).toMatchObject([{ active: true }]);
});

test("while the first request is in progress the key is in use: 409, which the SDK retries by itself", async () => {
  simulator.faults.add({ kind: "slow", delayMs: 300, moment: "before" });
  const first = stripe.paymentLinks.create(linkOrder(), { idempotencyKey });
  await simulator.waitFor(({ faulted }) => faulted === 1);
  expect(await errorOf(stripe.paymentLinks.create(linkOrder(), { idempotencyKey }))).toMatchObject({
    statusCode: 409,
    code: "idempotency_key_in_use",
  });
  const patient = createStripe(simulator, { retries: 3 }).paymentLinks.create(linkOrder(), { idempotencyKey });
  expect((await patient).id).toBe((await first).id);
  expect(simulator.stats.links).toBe(1);
});

test("a refused order leaves the key unused", async () => {
  await errorOf(stripe.paymentLinks.create(linkOrder({ line_items: [] }), { idempotencyKey }));
  expect((await stripe.paymentLinks.create(linkOrder(), { idempotencyKey })).active).toBe(true);
});

test("a key expires after a day, and belongs to one account", async () => {
  let now = Date.UTC(2026, 0, 5);
  await using own = await startStripeSimulator({ now: () => now });
  own.addAccount("sk_test_harbor");
  const client = createStripe(own);
  const first = await client.paymentLinks.create(linkOrder(), { idempotencyKey });
  const theirs = await createStripe(own, { key: "sk_test_harbor" }).paymentLinks.create(linkOrder(), {
    idempotencyKey,
  });
  expect(theirs.id).not.toBe(first.id);
  now += 24 * 3_600_000;
  expect((await client.paymentLinks.create(linkOrder(), { idempotencyKey })).id).toBe(first.id);
  now += 1000;
  expect((await client.paymentLinks.create(linkOrder(), { idempotencyKey })).id).not.toBe(first.id);
});

test("twenty concurrent requests with one key create one link", async () => {
  const patient = createStripe(simulator, { retries: 5 });
  const calls = Array.from({ length: 20 }, () => patient.paymentLinks.create(linkOrder(), { idempotencyKey }));
  const ids = new Set((await Promise.all(calls)).map(({ id }) => id));
  expect(ids.size).toBe(1);
  expect(simulator.stats.links).toBe(1);
});
