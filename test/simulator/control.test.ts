import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type SendgridSimulator, startSendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createBody, createReceiver, post } from "./helpers.ts";

let simulator: SendgridSimulator;
beforeAll(async () => {
  simulator = await startSendgridSimulator();
});
beforeEach(() => simulator.reset());
afterAll(() => simulator.close());

async function control(
  method: "GET" | "POST",
  path: string,
  body?: unknown,
): Promise<{ status: number; body: unknown }> {
  const response = await fetch(`${simulator.url}/_control/${path}`, {
    method,
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, body: text === "" ? null : (JSON.parse(text) as unknown) };
}

test("faults are added one by one or as a list, and listed", async () => {
  expect((await control("POST", "faults", { kind: "server_error", moment: "after" })).status).toBe(201);
  await control("POST", "faults", [
    { kind: "rate_limited", resetSeconds: 5, times: 2 },
    { kind: "reset", recipient: "x@example.com" },
  ]);
  expect((await control("GET", "faults")).body).toEqual([
    { rule: { kind: "server_error", moment: "after" }, struck: 0, remaining: 1 },
    { rule: { kind: "rate_limited", resetSeconds: 5, times: 2 }, struck: 0, remaining: 2 },
    { rule: { kind: "reset", recipient: "x@example.com" }, struck: 0, remaining: null },
  ]);
  expect((await post(simulator, createBody())).status).toBe(500);
});

test.each([
  { kind: "explode" },
  { kind: "slow" },
  { kind: "reset", moment: "during" },
  { kind: "reset", twice: 1 },
  "reset",
])("an invalid fault is refused: %o", async (rule) => {
  expect((await control("POST", "faults", rule)).status).toBe(400);
  expect(simulator.faults.list()).toEqual([]);
});

test("messages are listed, all of them or those of one row", async () => {
  await post(simulator, createBody("ann@example.com"));
  await post(simulator, createBody("bob@example.com"));
  expect((await control("GET", "messages")).body).toHaveLength(2);
  expect((await control("GET", "messages?row=row-of-bob%40example.com")).body).toMatchObject({
    accepted: 1,
    messages: [{ to: [{ email: "bob@example.com" }] }],
  });
  expect((await control("GET", "stats")).body).toMatchObject({ accepted: 2, rows: 2, duplicates: [] });
});

test("the webhook is set and flushed; modes that are not named stay unchanged", async () => {
  await using receiver = await createReceiver(simulator.publicKey);
  expect((await control("POST", "webhook", { url: receiver.url, duplicates: "same" })).status).toBe(200);
  expect((await control("POST", "webhook", { reorder: true })).body).toMatchObject({
    url: receiver.url,
    duplicates: "same",
    reorder: true,
  });
  expect((await control("POST", "webhook", { speed: 3 })).status).toBe(400);
  await post(simulator, createBody());
  expect((await control("POST", "events/flush")).body).toMatchObject({ delivered: 4, posts: 1 });
  expect(receiver.posts).toMatchObject([{ verified: true }]);
});

test("the public key is shown, a reset clears everything, and unknown paths list the endpoints", async () => {
  expect((await control("GET", "public-key")).body).toEqual({ public_key: simulator.publicKey });
  await post(simulator, createBody());
  expect(await control("POST", "reset")).toEqual({ status: 204, body: null });
  expect(simulator.stats).toMatchObject({ requests: 0, messages: 0, rows: 0, queuedEvents: 0 });
  expect(await control("GET", "reset")).toMatchObject({
    status: 404,
    body: { endpoints: expect.arrayContaining(["POST /_control/reset"]) },
  });
});
