// The official SDK as a client, and a receiver of webhooks that verifies signatures with the SDK.
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { Stripe } from "stripe";
import type { StripeSimulator } from "../../src/simulator/stripe/index.ts";

/** The SDK against the simulator. One attempt per call unless `retries` is given. */
export function createStripe(simulator: StripeSimulator, options: { key?: string; retries?: number } = {}): Stripe {
  const { hostname, port } = new URL(simulator.url);
  return new Stripe(options.key ?? simulator.secretKey, {
    host: hostname,
    port,
    protocol: "http",
    telemetry: false,
    maxNetworkRetries: options.retries ?? 0,
  });
}

type LinkParams = Stripe.PaymentLinkCreateParams;

/** One payment of 125.00 USD by a single-use link. */
export function linkOrder(changes: Partial<LinkParams> = {}): LinkParams {
  return {
    line_items: [
      {
        price_data: { currency: "usd", product_data: { name: "Roof inspection" }, unit_amount: 12_500 },
        quantity: 1,
      },
    ],
    restrictions: { completed_sessions: { limit: 1 } },
    metadata: { request: "request-1" },
    ...changes,
  };
}

/** 49.00 USD a month. */
export function monthlyOrder(changes: Partial<LinkParams> = {}): LinkParams {
  const data = {
    currency: "usd",
    product_data: { name: "Care plan" },
    unit_amount: 4900,
    recurring: { interval: "month" },
  };
  return linkOrder({
    line_items: [{ price_data: data as NonNullable<LinkParams["line_items"][number]["price_data"]>, quantity: 1 }],
    subscription_data: { metadata: { request: "request-1" } },
    ...changes,
  });
}

/** The error that the SDK throws; fails if it throws none. */
export async function errorOf(call: Promise<unknown>): Promise<InstanceType<typeof Stripe.errors.StripeError>> {
  try {
    await call;
  } catch (error) {
    if (error instanceof Stripe.errors.StripeError) return error;
    throw error;
  }
  throw new Error("The SDK was expected to throw, and did not");
}

export interface Receiver extends AsyncDisposable {
  url: string;
  /** Every POST, in order; `event` is null if the SDK refuses the signature or the body is not JSON. */
  posts: { event: Stripe.Event | null; body: string; signature: string; path: string }[];
  /** Statuses of the next responses; 200 if empty. */
  answers: number[];
}

/** `secret`, or for several endpoints the secret of each path. */
export async function createReceiver(secret: string | Record<string, string>): Promise<Receiver> {
  const posts: Receiver["posts"] = [];
  const answers: number[] = [];
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      const body = Buffer.concat(chunks).toString();
      const signature = String(request.headers["stripe-signature"]);
      const path = request.url ?? "/";
      const expected = typeof secret === "string" ? secret : (secret[path] ?? "");
      posts.push({ event: verified(body, signature, expected), body, signature, path });
      response.writeHead(answers.shift() ?? 200).end();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    posts,
    answers,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
}

function verified(body: string, signature: string, secret: string): Stripe.Event | null {
  try {
    return new Stripe("sk_test_verifier").webhooks.constructEvent(body, signature, secret);
  } catch {
    return null;
  }
}

/** Types of events in the order they happened. */
export function typesOf(simulator: StripeSimulator): string[] {
  return simulator
    .events()
    .map(({ type }) => type as string)
    .toReversed();
}
