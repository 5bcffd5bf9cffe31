import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type SendgridEvent,
  type SendgridSimulator,
  startSendgridSimulator,
} from "../../src/simulator/sendgrid/index.ts";
import { createBody, createReceiver, post, type Receiver, verifySignature } from "./helpers.ts";

const now = 1_700_000_000_000;
let simulator: SendgridSimulator;
let receiver: Receiver;
beforeEach(async () => {
  simulator = await startSendgridSimulator({ retryDelaysMs: [1, 2, 4], now: () => now });
  receiver = await createReceiver(simulator.publicKey);
  simulator.setWebhook(receiver.url);
});
afterEach(async () => {
  await simulator.close();
  await receiver[Symbol.asyncDispose]();
});

async function eventsFor(to: string, changes: Record<string, unknown> = {}): Promise<SendgridEvent[]> {
  const { status } = await post(simulator, createBody(to, changes));
  expect(status).toBe(202);
  await simulator.flushEvents();
  return receiver.posts.flatMap((each) => each.events);
}

describe("the recipient's local part selects the events", () => {
  test.each([
    ["ann", "processed delivered", {}],
    ["bounce", "processed bounce", { type: "bounce", status: "5.1.1", bounce_classification: "Invalid Address" }],
    ["bounce+17", "processed bounce", { reason: expect.stringMatching(/^550 5\.1\.1 /) }],
    ["asyncbounce", "processed delivered bounce", { type: "bounce" }],
    ["lostbounce", "processed delivered bounce", { type: "bounce" }],
    ["nostatus", "processed bounce", { type: "bounce", bounce_classification: "Unclassified" }],
    ["full", "processed bounce", { bounce_classification: "Mailbox Unavailable" }],
    ["blocked", "processed bounce", { type: "blocked", bounce_classification: "Reputation" }],
    ["deferred", "processed deferred", { attempt: "1", response: expect.stringContaining("421") }],
    ["late", "processed deferred delivered", {}],
    ["expired", "processed deferred bounce", { type: "expired" }],
    ["drop", "dropped", { reason: "Bounced Address" }],
    ["dropunsub", "dropped", { reason: "Unsubscribed Address" }],
    ["dropspam", "dropped", { reason: "Spam Reporting Address" }],
    ["dropcontent", "dropped", { reason: "Spam Content" }],
    ["dropquota", "dropped", { reason: "Recipient List over Package Quota" }],
    ["spam", "processed delivered spamreport", {}],
    ["unsub", "processed delivered unsubscribe", {}],
    ["groupunsub", "processed delivered group_unsubscribe", { asm_group_id: 0 }],
    ["groupresub", "processed delivered group_resubscribe", { asm_group_id: 0 }],
    ["open", "processed delivered open", { sg_machine_open: false, useragent: expect.any(String) }],
    ["click", "processed delivered open click", { url: expect.any(String), url_offset: { index: 0, type: "html" } }],
    ["machine", "processed delivered open", { sg_machine_open: true }],
  ])("%s: %s", async (local, expected, last) => {
    const events = await eventsFor(`${local}@example.com`);
    expect(events.map((event) => event.event).join(" ")).toBe(expected);
    expect(events.at(-1)).toMatchObject(last);
  });
});

describe("the fields of an event", () => {
  test("identify the message, and carry custom arguments at the top level", async () => {
    const events = await eventsFor("ann@example.com", { categories: ["receipts"] });
    const id = simulator.messages[0]?.messageId;
    expect(events).toMatchObject([
      {
        email: "ann@example.com",
        timestamp: 1_700_000_000,
        event: "processed",
        "smtp-id": `<${id}@geopod-ismtpd-1>`,
        category: ["receipts"],
        bo_msg: "row-of-ann@example.com",
      },
      { event: "delivered", response: expect.stringMatching(/^250 /), ip: expect.any(String), tls: 1 },
    ]);
    for (const event of events) {
      expect(event["sg_message_id"]).toMatch(/^[\w-]{22}\.recvd-[\w-]+\.0$/);
      expect(String(event["sg_message_id"]).split(".")[0]).toBe(id);
      expect(String(event["sg_event_id"]).length).toBeLessThanOrEqual(100);
    }
    expect(new Set(events.map((event) => event["sg_event_id"])).size).toBe(2);
  });

  test("differ for each recipient of one request, copies included", async () => {
    const personalizations = [
      { to: [{ email: "a@example.com" }], cc: [{ email: "c@example.com" }], custom_args: { bo_msg: "1" } },
      { to: [{ email: "b@example.com" }], bcc: [{ email: "d@example.com" }], custom_args: { bo_msg: "2" } },
    ];
    const events = await eventsFor("", { personalizations });
    expect(events.map(({ email, bo_msg }) => `${email} ${String(bo_msg)}`)).toEqual(
      ["a 1", "a 1", "c 1", "c 1", "b 2", "b 2", "d 2", "d 2"].map((each) => each.replace(" ", "@example.com ")),
    );
    expect(new Set(events.map((event) => event["sg_event_id"])).size).toBe(8);
    expect(new Set(events.map((event) => event["sg_message_id"])).size).toBe(4);
  });

  test("lack smtp-id for a person's action, and have a known group id", async () => {
    const events = await eventsFor("groupunsub@example.com", { asm: { group_id: 42 } });
    expect(events.at(-1)).toMatchObject({
      event: "group_unsubscribe",
      asm_group_id: 42,
      sg_message_id: expect.any(String),
    });
    expect(events.at(-1)).not.toHaveProperty("smtp-id");
  });

  test("lack message id and custom arguments for an asynchronous bounce, and smtp-id too for a lost one", async () => {
    const asynchronous = (await eventsFor("asyncbounce@example.com")).at(-1);
    expect(asynchronous).toHaveProperty("smtp-id");
    expect(asynchronous).not.toHaveProperty("sg_message_id");
    expect(asynchronous).not.toHaveProperty("bo_msg");
    const lost = (await eventsFor("lostbounce@example.com")).at(-1);
    expect(lost).toMatchObject({ email: "lostbounce@example.com", event: "bounce" });
    expect(lost).not.toHaveProperty("smtp-id");
    expect(lost).not.toHaveProperty("sg_message_id");
  });

  test("need not include a status for a bounce", async () => {
    expect((await eventsFor("nostatus@example.com")).at(-1)).not.toHaveProperty("status");
  });
});

describe("the signature", () => {
  test("is over the timestamp and the raw body, the final CRLF included", async () => {
    await eventsFor("ann@example.com");
    const [first] = receiver.posts;
    expect(first).toMatchObject({ verified: true, timestamp: 1_700_000_000 });
    expect(first?.raw.subarray(-2).toString()).toBe("\r\n");
  });

  test("is invalid for a trimmed body, another time or another key", async () => {
    await eventsFor("ann@example.com");
    const { raw, signature } = receiver.posts[0] ?? { raw: Buffer.alloc(0), signature: "" };
    await using stranger = await startSendgridSimulator();
    expect(verifySignature(simulator.publicKey, "1700000000", raw, signature)).toBe(true);
    expect(verifySignature(simulator.publicKey, "1700000000", raw.subarray(0, -2), signature)).toBe(false);
    expect(verifySignature(simulator.publicKey, "1700000001", raw, signature)).toBe(false);
    expect(verifySignature(stranger.publicKey, "1700000000", raw, signature)).toBe(false);
  });

  test("matches SendGrid's own test vector (sendgrid-nodejs, eventwebhook.spec.js)", () => {
    const event = {
      email: "hello@world.com",
      event: "dropped",
      reason: "Bounced Address",
      sg_event_id: "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
      sg_message_id: "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
      "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
      timestamp: 1600112492,
    };
    const key =
      "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==";
    const signature =
      "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
    const raw = `${JSON.stringify([event])}\r\n`;
    expect(verifySignature(key, "1600112502", Buffer.from(raw), signature)).toBe(true);
    expect(verifySignature(key, "1600112502", Buffer.from(raw.trimEnd()), signature)).toBe(false);
    expect(verifySignature(key, "1600112503", Buffer.from(raw), signature)).toBe(false);
    // Our key is exported in the same format.
    expect(Buffer.from(simulator.publicKey, "base64")).toHaveLength(Buffer.from(key, "base64").length);
  });
});

describe("delivery", () => {
  test("events wait until there is a receiver, and until a flush", async () => {
    simulator.setWebhook(null);
    await post(simulator, createBody());
    expect(await simulator.flushEvents()).toMatchObject({ delivered: 0, posts: 0 });
    simulator.setWebhook(receiver.url);
    expect(receiver.posts).toEqual([]);
    expect(simulator.stats.queuedEvents).toBe(2);
    expect(await simulator.flushEvents()).toEqual({ delivered: 2, failed: 0, posts: 1, statuses: [204] });
    expect(await simulator.flushEvents()).toMatchObject({ posts: 0 });
  });

  test("anything but 2xx is retried, and redirects are not followed", async () => {
    receiver.answers.push({ status: 500 }, { status: 301, headers: { Location: receiver.url } }, { status: 200 });
    await post(simulator, createBody());
    expect(await simulator.flushEvents()).toEqual({ delivered: 2, failed: 0, posts: 3, statuses: [500, 301, 200] });
    expect(receiver.posts).toHaveLength(3);
    expect(receiver.posts.every((each) => each.verified)).toBe(true);
  });

  test("a batch is given up after the last retry", async () => {
    receiver.answers.push(...Array.from({ length: 4 }, () => ({ status: 503 })));
    await post(simulator, createBody());
    expect(await simulator.flushEvents()).toMatchObject({ delivered: 0, failed: 2, posts: 4 });
  });

  test("an unreachable receiver counts as no response", async () => {
    await receiver[Symbol.asyncDispose]();
    await post(simulator, createBody());
    expect(await simulator.flushEvents()).toMatchObject({ failed: 2, statuses: [0, 0, 0, 0] });
  });

  test("a batch has at most batchEvents events", async () => {
    await using small = await startSendgridSimulator({ batchEvents: 3 });
    await using other = await createReceiver(small.publicKey);
    small.setWebhook(other.url);
    await Promise.all(Array.from({ length: 4 }, (_, index) => post(small, createBody(`u${index}@example.com`))));
    expect(await small.flushEvents()).toMatchObject({ delivered: 8, posts: 3 });
    expect(other.posts.map((each) => each.events.length)).toEqual([3, 3, 2]);
  });

  test("flushMs delivers events without a call; events: false creates none", async () => {
    await using eager = await startSendgridSimulator({ flushMs: 5 });
    await using other = await createReceiver(eager.publicKey);
    eager.setWebhook(other.url);
    await post(eager, createBody());
    await expect.poll(() => other.posts.length).toBe(1);
    await using silent = await startSendgridSimulator({ events: false, keepMessages: false });
    await post(silent, createBody());
    expect(silent.stats).toMatchObject({ messages: 1, rows: 1, queuedEvents: 0 });
    expect(silent.messages).toEqual([]);
  });

  test("close() ends the retries", async () => {
    await using patient = await startSendgridSimulator({ retryDelaysMs: [60_000], webhookUrl: receiver.url });
    receiver.answers.push({ status: 500 });
    await post(patient, createBody());
    const flushed = patient.flushEvents();
    await expect.poll(() => receiver.posts.length).toBe(1);
    await patient.close();
    expect(await flushed).toMatchObject({ delivered: 0, failed: 2, posts: 1 });
  });
});
