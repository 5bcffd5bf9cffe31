import { Stripe } from "stripe";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createReceiver, createStripe, errorOf, linkOrder, monthlyOrder } from "./stripeHelpers.ts";

let simulator: StripeSimulator;
let stripe: Stripe;
beforeAll(async () => {
  simulator = await startStripeSimulator();
  stripe = createStripe(simulator);
});
beforeEach(() => simulator.reset());
afterAll(() => simulator.close());

async function control(path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
  const method = body === undefined ? "GET" : "POST";
  const response = await fetch(`${simulator.url}/_control/${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return { status: response.status, body: await response.json() };
}

test("people's actions are available over HTTP", async () => {
  const { url } = await stripe.paymentLinks.create(linkOrder());
  expect(await control("visit", { link: url })).toMatchObject({ status: 200, body: { status: "open" } });
  expect(await control("pay", { link: url, email: "ann@example.com" })).toMatchObject({ body: { outcome: "paid" } });
  expect(await control("refund", { target: url, amount: 100 })).toMatchObject({ body: { amount: 100 } });
  const dispute = await control("dispute", { target: url });
  const { id } = dispute.body as { id: string };
  expect(await control("close-dispute", { dispute: id, verdict: "won" })).toMatchObject({ body: { status: "won" } });
  expect((await control("links")).body).toMatchObject([{ url, active: false }]);
  expect((await control("stats")).body).toMatchObject({ links: 1, payments: 1 });
});

test("time can be advanced over HTTP", async () => {
  const { url } = await stripe.paymentLinks.create(monthlyOrder());
  await control("pay", { link: url, email: "ann@example.com" });
  await control("fail-payments", { target: url });
  await control("advance", { ms: 32 * 86_400_000 });
  expect(simulator.events("invoice.payment_failed")).toHaveLength(1);
  expect(await control("cancel", { target: url })).toMatchObject({ body: { status: "canceled" } });
});

test("faults and webhooks are set over HTTP, and invalid values are refused", async () => {
  await using receiver = await createReceiver(simulator.webhookSecret);
  expect((await control("webhook-secret")).body).toEqual({ webhook_secret: simulator.webhookSecret });
  expect(await control("webhook", { url: receiver.url, duplicates: "same" })).toMatchObject({ status: 200 });
  expect(await control("faults", [{ kind: "rate_limited" }, { kind: "reset", moment: "after" }])).toMatchObject({
    body: [{ remaining: 1 }, { remaining: 1 }],
  });
  expect(await errorOf(stripe.products.create({ name: "x" }))).toMatchObject({ statusCode: 429 });
  simulator.faults.clear();
  await stripe.products.create({ name: "x" });
  expect(await control("events/flush", {})).toMatchObject({ body: { delivered: 2 } });
  simulator.setWebhook(null);
  for (const [path, body] of [
    ["faults", { kind: "explode" }],
    ["faults", { kind: "slow" }],
    ["webhook", { speed: 3 }],
    ["pay", { link: "plink_none", email: "ann@example.com" }],
    ["pay", { link: "plink_none", email: "ann" }],
    ["refund", { target: "ch_none" }],
    ["advance", { ms: -1 }],
  ] as const) {
    expect(await control(path, body)).toMatchObject({ status: 400, body: { error: expect.anything() } });
  }
  expect(await control("teleport", {})).toMatchObject({ status: 404 });
});

test("a person opens the link in a browser, sees the price, and pays", async () => {
  const { url } = await stripe.paymentLinks.create(
    linkOrder({ after_completion: { type: "redirect", redirect: { url: "https://example.com/thanks" } } }),
  );
  const page = await (await fetch(`${url}?prefilled_email=%22%3E%3Cscript%3E`)).text();
  expect(page).toContain("This is a simulator, not Stripe");
  expect(page).toContain("1 × Roof inspection: <b>$125.00</b>");
  expect(page).not.toContain("<script>");
  const pay = (card: string): Promise<Response> =>
    fetch(url, { method: "POST", redirect: "manual", body: new URLSearchParams({ email: "ann@example.com", card }) });
  expect((await pay("declined")).status).toBe(402);
  const paid = await pay("ok");
  expect([paid.status, paid.headers.get("location")]).toEqual([303, "https://example.com/thanks"]);
  expect(simulator.events("checkout.session.completed")).toMatchObject([
    { data: { object: { customer_details: { email: "ann@example.com" }, payment_status: "paid" } } },
  ]);
  expect(await (await fetch(url)).text()).toContain("This link does not accept payments");
  expect((await fetch(`${simulator.url}/pay/test_none`)).status).toBe(404);
});

test("amounts are shown with the currency's decimals", async () => {
  const data = { currency: "jpy", product_data: { name: "Tea" }, unit_amount: 500 };
  const { url } = await stripe.paymentLinks.create({ line_items: [{ price_data: data, quantity: 1 }] });
  expect(await (await fetch(url)).text()).toContain("¥500");
});

test("a reset clears everything but accounts, secrets and webhook URLs", async () => {
  await using receiver = await createReceiver(simulator.webhookSecret);
  simulator.setWebhook(receiver.url);
  const { id } = await stripe.paymentLinks.create(linkOrder(), { idempotencyKey: "k" });
  simulator.pay(id, { email: "ann@example.com", card: "async_ok" });
  simulator.advance(86_400_000);
  simulator.reset();
  expect(simulator.stats).toMatchObject({ requests: 0, links: 0, events: 0, queuedEvents: 0 });
  expect(simulator.clock.now).toBe(simulator.clock.wall);
  expect((await stripe.paymentLinks.create(linkOrder(), { idempotencyKey: "k" })).id).not.toBe(id);
  await simulator.flushEvents();
  expect(receiver.posts.every(({ event }) => event !== null)).toBe(true);
  expect(receiver.posts.length).toBeGreaterThan(0);
  simulator.setWebhook(null);
});
