// What the Twilio simulator posts, verified with the SDK.
import { beforeAll, afterAll, beforeEach, describe, expect, it } from "vitest";
import { startTwilioSimulator, type TwilioSimulator } from "../../src/simulator/twilio/index.ts";
import { createClient, createTwilioReceiver, type TwilioReceiver } from "./twilioHelpers.ts";

let simulator: TwilioSimulator;
let receiver: TwilioReceiver;

beforeAll(async () => {
  simulator = await startTwilioSimulator({ retryDelaysMs: [1] });
  receiver = await createTwilioReceiver(simulator.authToken);
});
beforeEach(() => {
  simulator.reset();
  simulator.setWebhook(`${receiver.url}/inbound`);
  receiver.posts.length = 0;
});
afterAll(async () => {
  await simulator.close();
  await receiver[Symbol.asyncDispose]();
});

const send = (to: string) =>
  createClient(simulator).messages.create({
    to,
    from: simulator.from,
    body: "Hello",
    statusCallback: `${receiver.url}/status?row=a%20row`,
  });
const reported = () => receiver.posts.map(({ parameters }) => [parameters["MessageStatus"], parameters["ErrorCode"]]);

describe("status callbacks", () => {
  it("report each status in order, signed over the exact URL", async () => {
    const { sid } = await send("+13035550100");
    expect(await simulator.flushEvents()).toEqual({ delivered: 2, failed: 0, posts: 2, statuses: [204, 204] });
    expect(reported()).toEqual([
      ["sent", undefined],
      ["delivered", undefined],
    ]);
    for (const post of receiver.posts) {
      expect(post).toMatchObject({ isGenuine: true, path: "/status?row=a%20row" });
      expect(post.parameters).toMatchObject({ MessageSid: sid, AccountSid: simulator.accountSid, To: "+13035550100" });
    }
    expect(simulator.acceptedCount("a row")).toBe(1);
    expect(await simulator.flushEvents()).toMatchObject({ posts: 0 });
  });

  it("report the error that the number ends in, or that is set for it", async () => {
    simulator.fates.set("+13035550101", { status: "failed", errorCode: 30002 });
    for (const to of ["+13035530003", "+13035530007", "+13035550101"]) await send(to);
    await simulator.flushEvents();
    expect(reported()).toEqual([
      ["sent", undefined],
      ["undelivered", "30003"],
      ["sent", undefined],
      ["undelivered", "30007"],
      ["failed", "30002"],
    ]);
  });

  it("are repeated, reordered or lost, as configured", async () => {
    simulator.setModes({ duplicates: "same", copies: 2, reorder: true });
    await send("+13035550100");
    expect(await simulator.flushEvents()).toMatchObject({ delivered: 6 });
    expect(new Set(receiver.posts.map(({ idempotencyToken }) => idempotencyToken)).size).toBe(2);
    simulator.setModes({ lose: 1 });
    await send("+13035550100");
    expect(simulator.stats.queuedEvents).toBe(0);
  });

  it("are retried once after a 5xx, and not after a 4xx", async () => {
    receiver.answers.push(503, 204, 401);
    await send("+13035550100");
    expect(await simulator.flushEvents()).toEqual({ delivered: 1, failed: 1, posts: 3, statuses: [503, 204, 401] });
  });

  it("are signed with another token, as configured", async () => {
    simulator.setModes({ wrongSignature: 1 });
    await send("+13035550100");
    await simulator.flushEvents();
    expect(receiver.posts.map(({ isGenuine }) => isGenuine)).toEqual([false, true]);
  });
});

describe("inbound texts", () => {
  it("are posted, signed, to the webhook of the account that has the number", async () => {
    const own = simulator.addAccount("+13035550199");
    own.setWebhook(`${receiver.url}/of-its-own`);
    simulator.receive({ from: "+13035550100", body: "Hi & welcome = 100 %" });
    simulator.receive({ from: "+13035550100", body: "Hi", account: own.accountSid });
    await simulator.flushEvents();
    expect(receiver.posts).toMatchObject([
      { path: "/inbound", isGenuine: true, parameters: { Body: "Hi & welcome = 100 %", To: simulator.from } },
      { path: "/of-its-own", isGenuine: false, parameters: { To: "+13035550199", AccountSid: own.accountSid } },
    ]);
  });

  it("wait until a webhook is set", async () => {
    simulator.setWebhook(null);
    simulator.receive({ from: "+13035550100", body: "Hi" });
    expect(await simulator.flushEvents()).toMatchObject({ posts: 0 });
    simulator.setWebhook(`${receiver.url}/inbound`);
    expect(await simulator.flushEvents()).toMatchObject({ delivered: 1 });
  });

  it("have OptOutType if Advanced Opt-Out is on", async () => {
    await using advanced = await startTwilioSimulator({ advancedOptOut: true, webhookUrl: `${receiver.url}/advanced` });
    advanced.receive({ from: "+13035550100", body: "help" });
    advanced.receive({ from: "+13035550100", body: "what?" });
    await advanced.flushEvents();
    expect(receiver.posts.map(({ parameters }) => parameters["OptOutType"])).toEqual(["HELP", undefined]);
    expect(await createClient(advanced).messages.list({ to: "+13035550100" })).toMatchObject([
      { direction: "outbound-reply" },
    ]);
  });
});
