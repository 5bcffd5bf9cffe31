import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type SendgridEvent,
  type SendgridSimulator,
  startSendgridSimulator,
} from "../../src/simulator/sendgrid/index.ts";
import { createBody, createReceiver, post, type Receiver } from "./helpers.ts";

const now = 1_700_000_000_000;
let simulator: SendgridSimulator;
let receiver: Receiver;
beforeEach(async () => {
  simulator = await startSendgridSimulator({ retryDelaysMs: [], now: () => now, seed: 3 });
  receiver = await createReceiver(simulator.publicKey);
  simulator.setWebhook(receiver.url);
});
afterEach(async () => {
  await simulator.close();
  await receiver[Symbol.asyncDispose]();
});

async function sendAndFlush(count = 1, to = (index: number) => `user${index}@example.com`): Promise<SendgridEvent[]> {
  for (let index = 0; index < count; index++) await post(simulator, createBody(to(index)));
  await simulator.flushEvents();
  return receiver.posts.flatMap((each) => each.events);
}

const withoutId = (event: SendgridEvent): object => ({ ...event, sg_event_id: null });

test("duplicates: the same event again, with its id", async () => {
  simulator.setModes({ duplicates: "same", copies: 2 });
  const events = await sendAndFlush();
  expect(events).toHaveLength(6);
  expect(new Set(events.map((event) => event["sg_event_id"])).size).toBe(2);
});

test("duplicates: the same event under a new id", async () => {
  simulator.setModes({ duplicates: "new_event_id" });
  const events = await sendAndFlush();
  expect(new Set(events.map((event) => event["sg_event_id"])).size).toBe(4);
  expect(events.slice(2).map(withoutId)).toEqual(events.slice(0, 2).map(withoutId));
});

test("reorder: all events in another order, the same for the same seed", async () => {
  simulator.setModes({ reorder: true });
  const events = await sendAndFlush(10);
  const order = events.map(({ email, event }) => `${email} ${event}`);
  expect(order).not.toEqual(order.toSorted());
  expect(new Set(order).size).toBe(20);
  await using again = await startSendgridSimulator({ seed: 3, webhookUrl: receiver.url });
  again.setModes({ reorder: true });
  for (let index = 0; index < 10; index++) await post(again, createBody(`user${index}@example.com`));
  await again.flushEvents();
  expect(receiver.posts[1]?.events.map(({ email, event }) => `${email} ${event}`)).toEqual(order);
});

test("malformed: one element of each batch is not an event, a different one each time", async () => {
  simulator.setModes({ malformed: true });
  for (let batch = 0; batch < 6; batch++) await sendAndFlush();
  expect(receiver.posts.every((each) => each.verified && each.events.length === 3)).toBe(true);
  expect(receiver.posts.map((each) => each.events[1])).toEqual([
    null,
    "delivered",
    { event: "delivered" },
    expect.objectContaining({ event: 7 }),
    expect.objectContaining({ event: "teleported" }),
    [],
  ]);
});

test("wrongSignature: the given number of POSTs, or all until it is turned off", async () => {
  simulator.setModes({ wrongSignature: 1 });
  await sendAndFlush();
  await sendAndFlush();
  simulator.setModes({ wrongSignature: true });
  await sendAndFlush();
  await sendAndFlush();
  simulator.setModes({ wrongSignature: false });
  await sendAndFlush();
  expect(receiver.posts.map((each) => each.verified)).toEqual([false, true, false, false, true]);
});

test("oldTimestampSeconds: an old timestamp with a valid signature", async () => {
  simulator.setModes({ oldTimestampSeconds: 90_000 });
  await sendAndFlush();
  expect(receiver.posts[0]).toMatchObject({ verified: true, timestamp: now / 1000 - 90_000 });
});

test("bareBounces: bounces lose the ids of their message, other events do not", async () => {
  simulator.setModes({ bareBounces: true });
  const [processed, bounce] = await sendAndFlush(1, () => "bounce@example.com");
  expect(processed).toHaveProperty("bo_msg");
  expect(bounce).toMatchObject({ event: "bounce", type: "bounce", status: "5.1.1", email: "bounce@example.com" });
  expect(bounce).not.toHaveProperty("bo_msg");
  expect(bounce).not.toHaveProperty("sg_message_id");
});

test("reset() turns all modes off", async () => {
  simulator.setModes({ malformed: true, duplicates: "same" });
  simulator.reset();
  expect(await sendAndFlush()).toHaveLength(2);
});
