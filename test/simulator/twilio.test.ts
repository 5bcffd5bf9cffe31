// The Twilio simulator as the real SDK sees it.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { startTwilioSimulator, type TwilioSimulator } from "../../src/simulator/twilio/index.ts";
import { createClient } from "./twilioHelpers.ts";

let simulator: TwilioSimulator;
let at = Date.UTC(2026, 2, 1, 12);

beforeAll(async () => {
  simulator = await startTwilioSimulator({ now: () => at });
});
beforeEach(() => simulator.reset());
afterAll(() => simulator.close());

const send = (to: string, more: Record<string, string> = {}) =>
  createClient(simulator).messages.create({ to, from: simulator.from, body: "Hello", ...more });

describe("creating a text", () => {
  it("returns the resource, as the SDK reads it", async () => {
    const taken = await send("+13035550100", { body: "Grüße ¡ólé! €" });
    expect(taken).toMatchObject({
      status: "queued",
      to: "+13035550100",
      from: simulator.from,
      direction: "outbound-api",
      numSegments: "1",
      dateSent: null,
      errorCode: null,
    });
    expect(taken.dateCreated.getTime()).toBe(at);
    expect(taken.sid).toMatch(/^SM[0-9a-f]{32}$/);
    expect(simulator.messages).toMatchObject([{ sid: taken.sid, status: "delivered", segments: 1 }]);
  });

  it("leaves number and segments open if a messaging service sends", async () => {
    const taken = await createClient(simulator).messages.create({
      to: "+13035550100",
      messagingServiceSid: `MG${"0".repeat(32)}`,
      body: "Hello",
    });
    expect(taken).toMatchObject({ status: "accepted", from: null, numSegments: "0" });
  });

  it.each([
    ["+15005550001", 21211],
    ["+15005550002", 21612],
    ["+15005550003", 21408],
    ["+15005550004", 21610],
    ["+15005550009", 21614],
    ["13035550100", 21211],
    ["", 21604],
  ])("refuses to send to '%s' with %i", async (to, code) => {
    await expect(send(to)).rejects.toMatchObject({
      status: 400,
      code,
      moreInfo: `https://www.twilio.com/docs/errors/${code}`,
    });
    expect(simulator.stats).toMatchObject({ refused: 1, messages: 0 });
  });

  it.each([
    ["+15005550001", 21212],
    ["+15005550007", 21606],
    ["+15005550008", 21611],
    ["", 21603],
  ])("refuses to send from '%s' with %i", async (from, code) => {
    await expect(send("+13035550100", { from })).rejects.toMatchObject({ status: 400, code });
  });

  it("refuses an empty text and one of 1601 characters, and accepts one of 1600", async () => {
    await expect(send("+13035550100", { body: "" })).rejects.toMatchObject({ code: 21602 });
    await expect(send("+13035550100", { body: "x".repeat(1601) })).rejects.toMatchObject({ code: 21617 });
    expect((await send("+13035550100", { body: "x".repeat(1600) })).numSegments).toBe("11");
  });

  it("accepts only its own accounts", async () => {
    const own = simulator.addAccount("+13035550199");
    const stranger = { accountSid: `AC${"f".repeat(32)}`, authToken: simulator.authToken };
    for (const credentials of [stranger, { ...own, authToken: "wrong" }]) {
      const attempt = createClient(simulator, credentials).messages.create({
        to: "+13035550100",
        from: "+13035550199",
        body: "x",
      });
      await expect(attempt).rejects.toMatchObject({ status: 401, code: 20003 });
    }
    await createClient(simulator, own).messages.create({ to: "+13035550100", from: own.from, body: "x" });
    expect(simulator.messages).toMatchObject([{ accountSid: own.accountSid }]);
  });

  it("sends nothing to a person who wrote STOP to the number, until START", async () => {
    expect(simulator.receive({ from: "+13035550100", body: " stop " })).toMatchObject({ keyword: "stop" });
    await expect(send("+13035550100")).rejects.toMatchObject({ status: 400, code: 21610 });
    await send("+13035550101");
    await send("+13035550100", { from: "+13035550142" });
    expect(simulator.receive({ from: "+13035550100", body: "please stop" })).toMatchObject({ keyword: null });
    simulator.receive({ from: "+13035550100", body: "Start" });
    await send("+13035550100");
  });
});

describe("the list", () => {
  it("filters by number and by day sent, pages, and puts the newest first", async () => {
    const client = createClient(simulator);
    for (let i = 0; i < 5; i += 1) {
      at += 3_600_000;
      await send("+13035550100", { body: `text ${i}` });
    }
    await send("+13035550101", { body: "somebody else" });
    simulator.receive({ from: "+13035550100", body: "an answer" });

    const listed = await client.messages.list({ to: "+13035550100", pageSize: 2 });
    expect(listed.map(({ body }) => body)).toEqual(["text 4", "text 3", "text 2", "text 1", "text 0"]);
    expect(await client.messages.list({ from: "+13035550100" })).toMatchObject([
      { body: "an answer", direction: "inbound" },
    ]);
    expect(await client.messages.list({ limit: 3, pageSize: 2 })).toHaveLength(3);
    const today = new Date(at);
    const tomorrow = new Date(at + 86_400_000);
    expect(await client.messages.list({ dateSentAfter: today })).not.toHaveLength(0);
    expect(await client.messages.list({ dateSentAfter: tomorrow })).toEqual([]);
  });

  it("includes a queued text, but not if filtered by day sent", async () => {
    simulator.fates.set("+13035550100", { status: "silent" });
    const { sid } = await send("+13035550100");
    const client = createClient(simulator);
    expect(await client.messages.list({ to: "+13035550100" })).toMatchObject([{ sid, status: "queued" }]);
    expect(await client.messages.list({ to: "+13035550100", dateSentAfter: new Date(at - 86_400_000) })).toEqual([]);
  });

  it("shows an account only its own messages", async () => {
    const own = simulator.addAccount("+13035550199");
    const { sid } = await send("+13035550100");
    expect((await createClient(simulator).messages(sid).fetch()).body).toBe("Hello");
    await expect(createClient(simulator, own).messages(sid).fetch()).rejects.toMatchObject({
      status: 404,
      code: 20404,
    });
    expect(await createClient(simulator, own).messages.list()).toEqual([]);
  });
});

describe("a fault", () => {
  it.each([
    ["rate_limited", { kind: "rate_limited" } as const, 429, 20429],
    ["server_error", { kind: "server_error", status: 503 } as const, 503, 20500],
    ["unauthorized", { kind: "unauthorized" } as const, 401, 20003],
    ["refused", { kind: "refused", code: 30034, message: "Unregistered" } as const, 400, 30034],
  ])("%s fails one request, and nothing is sent", async (_name, rule, status, code) => {
    simulator.faults.add(rule);
    await expect(send("+13035550100")).rejects.toMatchObject({ status, code });
    expect(simulator.stats).toMatchObject({ faulted: 1, messages: 0 });
    await send("+13035550100");
    expect(simulator.stats).toMatchObject({ accepted: 1, messages: 1 });
  });

  it.each([
    ["a 500", { kind: "server_error", moment: "after" } as const],
    ["a reset", { kind: "reset", moment: "after" } as const],
    ["a response that arrives too late", { kind: "slow", delayMs: 60_000 } as const],
  ])("%s after acceptance leaves the text sent", async (_name, rule) => {
    simulator.faults.add(rule);
    const attempt = createClient(simulator, simulator, 300).messages.create({
      to: "+13035550100",
      from: simulator.from,
      body: "x",
    });
    await expect(attempt).rejects.toThrow(/hang up|ECONNRESET|timeout|internal server error/);
    expect(simulator.messages).toHaveLength(1);
  });

  it("applies only to matching numbers and requests", async () => {
    simulator.faults.add({ kind: "reset", recipient: "+1303*" });
    simulator.faults.add({ kind: "server_error", request: "list" });
    await send("+14155550100");
    await expect(send("+13035550100")).rejects.toMatchObject({ code: "ECONNRESET" });
    await expect(send("+13035550101")).rejects.toMatchObject({ code: "ECONNRESET" });
    await expect(createClient(simulator).messages.list()).rejects.toMatchObject({ status: 500 });
    expect(simulator.messages).toHaveLength(1);
  });

  it("limits requests per second", async () => {
    await using slow = await startTwilioSimulator({ requestsPerSecond: 2, now: () => at });
    const client = createClient(slow);
    const one = () => client.messages.create({ to: "+13035550100", from: slow.from, body: "x" });
    await one();
    await one();
    await expect(one()).rejects.toMatchObject({ status: 429, code: 20429 });
    at += 1000;
    await one();
  });
});

describe("over HTTP", () => {
  const post = async (path: string, body: unknown) => {
    const response = await fetch(`${simulator.url}/_control/${path}`, { method: "POST", body: JSON.stringify(body) });
    return { status: response.status, body: response.status === 204 ? null : await response.json() };
  };

  it("faults, inbound texts, counts and a reset are available from another process", async () => {
    expect(await post("faults", { kind: "reset", times: 2 })).toMatchObject({ status: 201, body: [{ remaining: 2 }] });
    expect(await post("faults", { kind: "meteor" })).toMatchObject({ status: 400 });
    expect(await post("receive", { from: "+13035550100", body: "STOP" })).toMatchObject({ body: { keyword: "stop" } });
    expect(await post("receive", { from: "+13035550100", body: "x", account: "AC0" })).toMatchObject({ status: 400 });
    expect(await (await fetch(`${simulator.url}/_control/stats`)).json()).toMatchObject({
      inbound: 1,
      queuedEvents: 1,
    });
    expect(await post("reset", {})).toEqual({ status: 204, body: null });
    expect(simulator.stats).toMatchObject({ inbound: 0, queuedEvents: 0 });
  });
});
