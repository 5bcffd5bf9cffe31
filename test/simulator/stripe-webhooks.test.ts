import { Stripe } from "stripe";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { startStripeSimulator, type StripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createReceiver, createStripe, linkOrder } from "./stripeHelpers.ts";

const ann = { email: "ann@example.com" };

let simulator: StripeSimulator;
let stripe: Stripe;
beforeAll(async () => {
  simulator = await startStripeSimulator({ retryDelaysMs: [1, 1] });
  stripe = createStripe(simulator);
});
beforeEach(() => {
  simulator.setWebhook(null);
  simulator.reset();
});
afterAll(() => simulator.close());

test("the SDK verifies every event, and none arrives twice", async () => {
  await using receiver = await createReceiver(simulator.webhookSecret);
  simulator.setWebhook(receiver.url);
  const link = await stripe.paymentLinks.create(linkOrder());
  simulator.pay(link.url, ann);
  const queued = simulator.stats.queuedEvents;
  const report = await simulator.flushEvents();
  expect(report).toEqual({ delivered: queued, failed: 0, posts: queued, statuses: Array(queued).fill(200) });
  expect(receiver.posts.every(({ event }) => event !== null)).toBe(true);
  expect(new Set(receiver.posts.map(({ event }) => event?.id)).size).toBe(queued);
  const completed = receiver.posts.find(({ event }) => event?.type === "checkout.session.completed");
  expect(completed?.event).toMatchObject({ object: "event", data: { object: { payment_link: link.id } } });
  // Indented with two spaces: a body that is parsed and serialized again has another signature.
  expect(completed?.body).toContain('\n  "object": "event"');
  expect((await simulator.flushEvents()).posts).toBe(0);
});

test("an event that is not accepted is retried with a new signature, then given up; it can be resent", async () => {
  await using receiver = await createReceiver(simulator.webhookSecret);
  simulator.setWebhook(receiver.url);
  await stripe.products.create({ name: "Inspection" });
  receiver.answers.push(500, 302);
  expect(await simulator.flushEvents()).toMatchObject({ delivered: 1, failed: 0, statuses: [500, 302, 200] });
  const product = await stripe.products.create({ name: "Inspection" });
  receiver.answers.push(503, 503, 503);
  expect(await simulator.flushEvents()).toMatchObject({ delivered: 0, failed: 1, posts: 3 });
  const [event] = simulator.events("product.created");
  expect(await stripe.events.retrieve(event?.id ?? "")).toMatchObject({ pending_webhooks: 1 });
  simulator.resend(event?.id ?? "");
  expect(await simulator.flushEvents()).toMatchObject({ delivered: 1 });
  expect(receiver.posts.at(-1)?.event).toMatchObject({ id: event?.id, data: { object: { id: product.id } } });
});

test("duplicates are the same event, or another event about the same change", async () => {
  await using receiver = await createReceiver(simulator.webhookSecret);
  simulator.setWebhook(receiver.url, { duplicates: "same", copies: 2 });
  await stripe.products.create({ name: "Inspection" });
  await simulator.flushEvents();
  expect(receiver.posts).toHaveLength(3);
  expect(new Set(receiver.posts.map(({ event }) => event?.id)).size).toBe(1);
  simulator.setModes({ duplicates: "new_event", copies: 1 });
  await stripe.products.create({ name: "Inspection" });
  await simulator.flushEvents();
  const [first, second] = receiver.posts.slice(3).map(({ event }) => event);
  expect(first?.id).not.toBe(second?.id);
  expect(first?.data.object).toEqual(second?.data.object);
});

test("events arrive in another order, late, or several at a time", async () => {
  await using receiver = await createReceiver(simulator.webhookSecret);
  simulator.setWebhook(receiver.url, { reorder: true, late: ["checkout.session.*"], concurrent: 4 });
  const link = await stripe.paymentLinks.create(linkOrder());
  simulator.pay(link.url, ann);
  const happened = simulator.events().toReversed();
  const { delivered } = await simulator.flushEvents();
  expect(delivered).toBe(happened.length - 1);
  const arrived = receiver.posts.map(({ event }) => event?.id);
  expect(arrived).not.toEqual(happened.filter(({ type }) => !type.startsWith("checkout")).map(({ id }) => id));
  simulator.setModes({ late: [], reorder: false });
  await simulator.flushEvents();
  expect(receiver.posts.at(-1)?.event?.type).toBe("checkout.session.completed");
  expect(new Set(receiver.posts.map(({ event }) => event?.id))).toEqual(new Set(happened.map(({ id }) => id)));
});

test("the SDK refuses a wrong signature and an old one; a malformed event has a valid signature", async () => {
  await using receiver = await createReceiver(simulator.webhookSecret);
  simulator.setWebhook(receiver.url, { wrongSignature: 1 });
  await stripe.products.create({ name: "a" });
  await simulator.flushEvents();
  simulator.setModes({ oldTimestampSeconds: 301 });
  await stripe.products.create({ name: "b" });
  await simulator.flushEvents();
  expect(receiver.posts.map(({ event }) => event)).toEqual([null, null]);
  simulator.setModes({ oldTimestampSeconds: 0, malformed: true });
  await stripe.products.create({ name: "c" });
  expect(await simulator.flushEvents()).toMatchObject({ delivered: 1, posts: 2 });
  const { body = "", signature = "" } = receiver.posts[2] ?? {};
  const { webhooks } = stripe;
  const expected = webhooks.generateTestHeaderString({
    payload: body,
    secret: simulator.webhookSecret,
    timestamp: Number(/^t=(\d+)/.exec(signature)?.[1]),
  });
  expect(signature.startsWith(expected)).toBe(true);
});

test("each endpoint has its own secret and types, and each account its own endpoints", async () => {
  await using own = await startStripeSimulator();
  const harbor = own.addAccount("sk_test_harbor");
  const ours = createStripe(own);
  const secrets: Record<string, string> = { "/main": own.webhookSecret, "/harbor": harbor.webhookSecret };
  await using receiver = await createReceiver(secrets);
  own.setWebhook(`${receiver.url}/main`);
  harbor.setWebhook(`${receiver.url}/harbor`);
  const sales = await ours.webhookEndpoints.create({
    url: `${receiver.url}/sales`,
    enabled_events: ["checkout.session.completed"],
  });
  expect(sales.secret).toMatch(/^whsec_/);
  expect((await ours.webhookEndpoints.retrieve(sales.id)).secret).toBeUndefined();
  secrets["/sales"] = sales.secret ?? "";

  const [mine, theirs] = [
    await ours.paymentLinks.create(linkOrder()),
    await createStripe(own, { key: "sk_test_harbor" }).paymentLinks.create(linkOrder()),
  ];
  own.pay(mine.url, ann);
  own.pay(theirs.url, ann);
  await own.flushEvents();
  const links = (path: string): unknown[] =>
    receiver.posts
      .filter((post) => post.path === path && post.event?.type === "checkout.session.completed")
      .map(({ event }) => event?.data.object as Stripe.Checkout.Session | undefined)
      .map((session) => session?.payment_link);
  expect(links("/main")).toEqual([mine.id]);
  expect(links("/harbor")).toEqual([theirs.id]);
  expect(receiver.posts.filter(({ path }) => path === "/sales")).toHaveLength(1);
  expect(receiver.posts.every(({ event }) => event !== null)).toBe(true);

  await ours.webhookEndpoints.del(sales.id);
  expect((await ours.webhookEndpoints.list()).data.map(({ url }) => url)).toEqual([`${receiver.url}/main`]);
});

test("flushMs delivers events without a call", async () => {
  await using own = await startStripeSimulator({ flushMs: 10 });
  await using receiver = await createReceiver(own.webhookSecret);
  own.setWebhook(receiver.url);
  await createStripe(own).products.create({ name: "Inspection" });
  await own.waitFor(({ queuedEvents }) => queuedEvents === 0);
  await own.flushEvents();
  expect(receiver.posts).toHaveLength(1);
});
