// POST /webhooks/sendgrid: whose requests are accepted, and which bodies.
import { createConnection } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { isTimely, SendgridSignature } from "../../src/http/webhooks/sendgridSignature.ts";
import { parseEvents } from "../../src/http/webhooks/json.ts";
import type { HttpServer } from "../../src/http/server.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { createEvent, createSigner, postEvents, startTestServer } from "./support.ts";

const first = createSigner();
const second = createSigner();
const stranger = createSigner();

let db: TestDatabase;
let server: HttpServer;

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, { SENDGRID_WEBHOOK_PUBLIC_KEY: `${first.publicKey}, ${second.publicKey}` });
});

afterAll(async () => {
  await server?.close();
  await db?.close();
});

const SIGNATURE = "x-twilio-email-event-webhook-signature";
const TIMESTAMP = "x-twilio-email-event-webhook-timestamp";
const HOUR = 3600;

async function recorded(): Promise<number> {
  const [row] = await db.query<{ n: number }>("select count(*)::int as n from webhook_events");
  return row?.n ?? 0;
}

describe("a signature", () => {
  it("is accepted from the first key, and from the second during a rotation", async () => {
    for (const signer of [first, second]) {
      const before = await recorded();
      const response = await postEvents(server, signer, [createEvent(), createEvent()]);
      expect(response.status).toBe(200);
      expect(await response.json()).toEqual({ recorded: 2 });
      expect(await recorded()).toBe(before + 2);
    }
  });

  it("is accepted with any media type, because the bytes are signed", async () => {
    for (const type of ["text/plain", "application/octet-stream", "application/x-www-form-urlencoded", undefined]) {
      const response = await postEvents(server, first, [createEvent()], { headers: { "content-type": type } });
      expect({ type, status: response.status }).toEqual({ type, status: 200 });
    }
  });

  it.each([
    ["of an unknown key", {}, stranger],
    ["that is missing", { headers: { [SIGNATURE]: undefined } }, first],
    ["without a timestamp", { headers: { [TIMESTAMP]: undefined } }, first],
    ["that is empty", { headers: { [SIGNATURE]: "" } }, first],
    ["that is garbage", { headers: { [SIGNATURE]: "%%% not base64 %%%" } }, first],
    ["that is not DER", { headers: { [SIGNATURE]: Buffer.alloc(71, 7).toString("base64") } }, first],
    ["with a timestamp that is not a number", { headers: { [TIMESTAMP]: "yesterday" } }, first],
    ["with another timestamp", { headers: { [TIMESTAMP]: String(Math.floor(Date.now() / 1000) - 60) } }, first],
    ["that is 25 h and a minute old", { age: 25 * HOUR + 60 }, first],
    ["that is 6 minutes ahead", { age: -6 * 60 }, first],
  ])("%s is refused, and nothing is written", async (_name, changes, signer) => {
    const before = await recorded();
    const response = await postEvents(server, signer, [createEvent()], changes);
    expect(response.status).toBe(401);
    expect(await response.json()).toEqual({ error: "This request is not signed by SendGrid." });
    expect(await recorded()).toBe(before);
  });

  it("that is 24 h old or 4 minutes ahead is accepted: SendGrid retries for a day", async () => {
    for (const age of [24 * HOUR, -4 * 60]) {
      expect((await postEvents(server, first, [createEvent()], { age })).status).toBe(200);
    }
  });

  it("covers every byte of the body", async () => {
    const body = Buffer.from(`${JSON.stringify([createEvent()])}\r\n`);
    const before = await recorded();
    for (const index of [0, 1, Math.floor(body.length / 2), body.length - 3, body.length - 1]) {
      const sentBody = Buffer.from(body);
      sentBody[index] = (sentBody[index] ?? 0) ^ 1;
      expect((await postEvents(server, first, body, { sentBody })).status, `byte ${index}`).toBe(401);
    }
    for (const sentBody of [body.subarray(0, -2), Buffer.concat([body, Buffer.from("\n")]), Buffer.alloc(0)]) {
      expect((await postEvents(server, first, body, { sentBody })).status).toBe(401);
    }
    expect(await recorded()).toBe(before);
  });

  it("matches SendGrid's own test vector (sendgrid-nodejs, eventwebhook.spec.js)", () => {
    const event = {
      email: "hello@world.com",
      event: "dropped",
      reason: "Bounced Address",
      sg_event_id: "ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",
      sg_message_id: "LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",
      "smtp-id": "<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>",
      timestamp: 1600112492,
    };
    const signature = new SendgridSignature(
      "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVpiglSI8eNEc6wEA3F+g==",
    );
    const given = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM=";
    const body = Buffer.from(`${JSON.stringify([event])}\r\n`);
    expect(signature.isGenuine("1600112502", body, given)).toBe(true);
    expect(signature.isGenuine("1600112503", body, given)).toBe(false);
    expect(signature.isGenuine("1600112502", body.subarray(0, -2), given)).toBe(false);
    expect(isTimely("1600112502", 1_600_112_502_000)).toBe(true);
  });
});

describe("without a usable key", () => {
  it("the webhook responds 503 and names the variable: it never skips the verification", async () => {
    const bare = await startTestServer(db);
    const before = await recorded();
    const response = await postEvents(bare, first, [createEvent()]);
    expect(response.status).toBe(503);
    expect(await response.text()).toContain("SENDGRID_WEBHOOK_PUBLIC_KEY");
    expect(await recorded()).toBe(before);
    await bare.close();
  });

  it.each([
    ["text", "a-secret-that-was-pasted-here"],
    ["a valid key and an empty one", `${first.publicKey},`],
    ["a key of another kind", "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="],
  ])("the server does not start: %s", async (_name, key) => {
    const start = startTestServer(db, { SENDGRID_WEBHOOK_PUBLIC_KEY: key });
    await expect(start).rejects.toThrow(/^SENDGRID_WEBHOOK_PUBLIC_KEY: key \d is not a P-256 public key/);
    await expect(start).rejects.not.toThrow(key);
  });
});

describe("a signed body", () => {
  it.each([
    ["nothing", ""],
    ["an object", "{}"],
    ["a string", '"delivered"'],
    ["null", "null"],
    ["half an array", '[{"event":"delivered"'],
    ["an array nested 100,000 deep", "[".repeat(100_000) + "]".repeat(100_000)],
    ["an object nested 100,000 deep", `[${'{"a":'.repeat(100_000)}1${"}".repeat(100_000)}]`],
  ])("that is %s is 400", async (_name, body) => {
    const response = await postEvents(server, first, body);
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({ error: "The body is not a JSON array of events." });
  });

  it("without events is 200", async () => {
    expect(await (await postEvents(server, first, [])).json()).toEqual({ recorded: 0 });
  });

  it("with characters that jsonb refuses is recorded, with U+FFFD in their place", async () => {
    const event = createEvent({ event: "open" });
    const body = JSON.stringify([event]).replace(
      /}]$/,
      String.raw`,"nul":"a\u0000b","lone":"\ud800","pair":"\ud83d\ude00","k\u0000ey":1,"list":["\udc00"],"\\u0000":"\\u0000","big":1e999,"__proto__":{"x":"\u0000"}}]`,
    );
    expect((await postEvents(server, first, body)).status).toBe(200);
    const [row] = await db.query<{ payload: Record<string, unknown> }>(
      "select payload from webhook_events where provider_event_id = $1",
      [event["sg_event_id"]],
    );
    expect(row?.payload).toMatchObject({
      nul: "a\uFFFDb",
      lone: "\uFFFD",
      pair: "😀",
      "k\uFFFDey": 1,
      list: ["\uFFFD"],
      "\\u0000": "\\u0000",
      big: null,
    });
    expect(Object.prototype).not.toHaveProperty("x");
  });

  it("with bytes that are not UTF-8 is recorded", async () => {
    const body = Buffer.from(JSON.stringify([createEvent({ useragent: "caf\u00e9" })]), "latin1");
    expect((await postEvents(server, first, body)).status).toBe(200);
  });

  it("with an id too long for an index, or none, is recorded once", async () => {
    const noise = Array.from({ length: 20_000 }, () => Math.random().toString(36).slice(2)).join("");
    const events = [createEvent({ sg_event_id: noise }), createEvent({ sg_event_id: undefined, url: noise }), [], null];
    expect(await (await postEvents(server, first, events)).json()).toEqual({ recorded: 4 });
    expect(await (await postEvents(server, first, events)).json()).toEqual({ recorded: 0 });
  });

  it("that names one event twice records it once", async () => {
    const event = createEvent();
    expect(await (await postEvents(server, first, [event, event])).json()).toEqual({ recorded: 1 });
  });

  it("as large as SendGrid's largest is accepted", async () => {
    const events = Array.from({ length: 1900 }, () => createEvent({ useragent: "x".repeat(300) }));
    const body = Buffer.from(JSON.stringify(events));
    expect(body.length).toBeGreaterThan(768 * 1024);
    expect(await (await postEvents(server, first, body)).json()).toEqual({ recorded: 1900 });
    const [jobs] = await db.query<{ most: number }>(
      "select max(json_array_length(payload -> 'ids')) as most from graphile_worker._private_jobs",
    );
    expect(jobs?.most).toBe(500);
  });

  it("above 2 MB is 413, by its announced length and as an endless stream", async () => {
    const announced = `Content-Length: ${2 * 1024 * 1024 + 1}`;
    expect(await sendRaw(server, announced, 0)).toMatch(/^HTTP\/1\.1 413 /);
    expect(await sendRaw(server, "Transfer-Encoding: chunked", 100 * 1024 * 1024)).toMatch(/^HTTP\/1\.1 413 /);
  });

  it("is not read if the headers cannot be genuine", async () => {
    expect(await sendRaw(server, `Content-Length: 1000`, 0, 1)).toMatch(/^HTTP\/1\.1 401 /);
  });
});

describe("parseEvents", () => {
  it("accepts 32 levels and no more", () => {
    const nested = (levels: number): Buffer => Buffer.from("[".repeat(levels) + "]".repeat(levels));
    expect(parseEvents(nested(32))).not.toBeNull();
    expect(parseEvents(nested(33))).toBeNull();
  });
});

/** Sends headers, then chunks until the server responds; resolves to the status line. */
function sendRaw(
  { url }: HttpServer,
  header: string,
  bytes: number,
  at = Math.floor(Date.now() / 1000),
): Promise<string> {
  const { port, hostname } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = createConnection({ port: Number(port), host: hostname });
    const chunk = Buffer.from(`10000\r\n${" ".repeat(0x10000)}\r\n`);
    let sent = 0;
    const send = (): void => {
      while (sent < bytes && !socket.destroyed) {
        sent += chunk.length;
        if (!socket.write(chunk)) return void socket.once("drain", send);
      }
    };
    socket.once("data", (data) => {
      resolve(data.toString().split("\r\n")[0] ?? "");
      socket.destroy();
    });
    // The server may close the connection while chunks are being sent.
    socket.on("error", () => {});
    socket.on("close", () => reject(new Error(`hung up without an answer after ${sent} bytes`)));
    socket.setTimeout(20_000, () => reject(new Error(`no answer after ${sent} bytes`)));
    socket.write(
      `POST /webhooks/sendgrid HTTP/1.1\r\nHost: x\r\n${header}\r\n${SIGNATURE}: c2lnbmVk\r\n${TIMESTAMP}: ${at}\r\n\r\n`,
      send,
    );
  });
}
