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
const create = (): Promise<Stripe.Response<Stripe.PaymentLink>> =>
  stripe.paymentLinks.create(linkOrder(), { idempotencyKey });

test.each([
  [{ kind: "rate_limited" }, 429, Stripe.errors.StripeRateLimitError],
  [{ kind: "unauthorized" }, 401, Stripe.errors.StripeAuthenticationError],
  [{ kind: "forbidden" }, 403, Stripe.errors.StripePermissionError],
  [{ kind: "payment_required" }, 402, Stripe.errors.StripeCardError],
  [{ kind: "conflict" }, 409, Stripe.errors.StripeError],
  [{ kind: "bad_request", message: "No.", param: "metadata" }, 400, Stripe.errors.StripeInvalidRequestError],
  [{ kind: "server_error", status: 503 }, 503, Stripe.errors.StripeAPIError],
] as const)(
  "%o throws the SDK's error, executes nothing, and leaves the key unused",
  async (rule, statusCode, kind) => {
    simulator.faults.add(rule);
    const error = await errorOf(create());
    expect(error).toBeInstanceOf(kind);
    expect(error.statusCode).toBe(statusCode);
    expect(simulator.stats).toMatchObject({ links: 0, faulted: 1 });
    expect((await create()).lastResponse.headers["idempotent-replayed"]).toBeUndefined();
  },
);

test("a 500 after the link was created is replayed for its key; the link is in the list", async () => {
  simulator.faults.add({ kind: "server_error", moment: "after" });
  await errorOf(create());
  const again = await errorOf(create());
  expect(again).toMatchObject({ statusCode: 500, headers: { "idempotent-replayed": "true" } });
  const { data } = await stripe.paymentLinks.list({ active: true });
  expect(data.map(({ metadata }) => metadata["request"])).toEqual(["request-1"]);
});

test("a 500 of a gateway is not stored: the retry gets the existing link", async () => {
  simulator.faults.add({ kind: "server_error", moment: "after", stored: false, status: 502 });
  await errorOf(create());
  const { id } = await create();
  expect(simulator.links()).toMatchObject([{ id }]);
});

test("a 500 before execution may be stored too: no link exists", async () => {
  simulator.faults.add({ kind: "server_error", stored: true });
  await errorOf(create());
  expect(await errorOf(create())).toMatchObject({ statusCode: 500, headers: { "idempotent-replayed": "true" } });
  expect(simulator.stats.links).toBe(0);
});

test("a reset after the link was created is recovered by the SDK's own retry", async () => {
  simulator.faults.add({ kind: "reset", moment: "after" });
  const link = await createStripe(simulator, { retries: 2 }).paymentLinks.create(linkOrder(), { idempotencyKey });
  expect(link.lastResponse.headers["idempotent-replayed"]).toBe("true");
  expect(simulator.stats).toMatchObject({ links: 1, faulted: 1, replayed: 1 });
});

test("responses that are lost repeatedly create no second link", async () => {
  simulator.faults.add({ kind: "reset", moment: "after", times: 3 });
  const patient = createStripe(simulator, { retries: 4 });
  const { id } = await patient.paymentLinks.create(linkOrder(), { idempotencyKey });
  expect(simulator.links()).toMatchObject([{ id }]);
  expect(simulator.stats).toMatchObject({ faulted: 3, replayed: 1 });
});

test("a fault on a replayed response does not replace the stored one", async () => {
  const { id } = await create();
  simulator.faults.add({ kind: "server_error", status: 503, moment: "after" });
  const error = await errorOf(create());
  expect(error.statusCode).toBe(503);
  expect(error.headers?.["idempotent-replayed"]).toBeUndefined();
  expect((await create()).id).toBe(id);
});

test("a reset before execution creates nothing", async () => {
  simulator.faults.add({ kind: "reset", times: 2 });
  expect(await errorOf(create())).toBeInstanceOf(Stripe.errors.StripeConnectionError);
  expect(simulator.stats.links).toBe(0);
});

test("a client that times out on a slow response gets the link by its key", async () => {
  simulator.faults.add({ kind: "slow", delayMs: 5000 });
  const hurried = stripe.paymentLinks.create(linkOrder(), { idempotencyKey, timeout: 200 });
  expect(await errorOf(hurried)).toBeInstanceOf(Stripe.errors.StripeConnectionError);
  expect(simulator.stats.links).toBe(1);
  expect((await create()).lastResponse.headers["idempotent-replayed"]).toBe("true");
});

test("a fault applies to matching requests only, and a refused one does not use it up", async () => {
  simulator.faults.add({ kind: "server_error", request: "POST /v1/payment_links/*", times: 1 });
  const link = await create();
  await errorOf(stripe.paymentLinks.update("plink_none", { active: false }));
  expect(simulator.faults.list()).toMatchObject([{ struck: 0, remaining: 1 }]);
  expect(await errorOf(stripe.paymentLinks.update(link.id, { active: false }))).toMatchObject({ statusCode: 500 });
  expect(await stripe.paymentLinks.update(link.id, { active: false })).toMatchObject({ active: false });
});

test("a fault with a key applies to one account only", async () => {
  await using own = await startStripeSimulator();
  own.addAccount("sk_test_harbor");
  own.faults.add({ kind: "unauthorized", key: "sk_test_harbor" });
  const theirs = createStripe(own, { key: "sk_test_harbor" });
  expect(await errorOf(theirs.paymentLinks.create(linkOrder()))).toMatchObject({ statusCode: 401 });
  expect((await createStripe(own).paymentLinks.create(linkOrder())).active).toBe(true);
});

test("the same seed gives the same random faults", async () => {
  const outcomes = async (seed: number): Promise<string> => {
    await using own = await startStripeSimulator({ seed });
    const client = createStripe(own);
    own.faults.add({ kind: "rate_limited", probability: 0.5 });
    let seen = "";
    for (let n = 0; n < 20; n++) {
      seen += await client.balance.retrieve().then(
        () => "+",
        () => "-",
      );
    }
    return seen;
  };
  const first = await outcomes(3);
  expect(first).toContain("+");
  expect(first).toContain("-");
  expect(await outcomes(3)).toBe(first);
});
