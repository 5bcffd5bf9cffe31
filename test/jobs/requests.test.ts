// How the engine sees whether a request has left, and what each provider makes of an error that came before.
import { once } from "node:events";
import { connect as connectHttp2, createServer as createHttp2Server } from "node:http2";
import { request as httpRequest } from "node:http";
import { connect, createServer, type AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { unwatched, watchRequests } from "../../src/jobs/requests.ts";
import { sendMail } from "../../src/providers/sendgrid.ts";
import { sendBulk } from "../../src/providers/sendgridBulk.ts";
import { postToSlack } from "../../src/providers/slack.ts";
import { createPaymentLink, deactivatePaymentLink, findPaymentLink } from "../../src/providers/stripe.ts";
import { createMessage, outcomeOf } from "../../src/providers/twilio.ts";

const now = (): Date => new Date("2026-01-01T00:00:00Z");
/** A port on which nothing listens. */
let refused: string;
/** A server that closes each connection at its first byte. */
let closing: string;
const server = createServer((socket) => {
  socket.on("error", () => {});
  socket.once("data", () => socket.destroy());
});

beforeAll(async () => {
  const free = createServer().listen(0, "127.0.0.1");
  server.listen(0, "127.0.0.1");
  await Promise.all([once(free, "listening"), once(server, "listening")]);
  refused = `http://127.0.0.1:${(free.address() as AddressInfo).port}`;
  closing = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  free.close();
  await once(free, "close");
});

afterAll(() => server.close());

const swallow = (run: () => unknown): Promise<unknown> => new Promise((resolve) => resolve(run())).catch(() => {});

describe("a watch", () => {
  const begins = async (run: () => unknown): Promise<boolean> => {
    const watch = watchRequests();
    await swallow(() => watch.run(run));
    return watch.begun;
  };
  const get = (url: string, headers: Record<string, string> = {}): Promise<unknown> =>
    new Promise((resolve, reject) => {
      httpRequest(url, { headers }, resolve).on("error", reject).end();
    });

  it.each([
    ["Node's HTTP client", () => get(closing)],
    ["a refused connection", () => get(refused)],
    ["an unknown host", () => get("http://nobody.invalid/")],
    ["fetch", () => fetch(closing)],
    ["fetch to a refused connection", () => fetch(refused)],
    ["fetch to an unknown host", () => fetch("http://nobody.invalid/")],
    ["a plain connection", () => once(connect(Number(new URL(closing).port), "127.0.0.1"), "connect")],
  ])("sees %s", async (_name, run) => {
    expect(await begins(run)).toBe(true);
  });

  it("sees a request over a connection of HTTP/2 that was opened before", async () => {
    const http2 = createHttp2Server().listen(0, "127.0.0.1");
    await once(http2, "listening");
    const session = connectHttp2(`http://127.0.0.1:${(http2.address() as AddressInfo).port}`);
    await once(session, "connect");
    expect(await begins(() => session.request({ ":path": "/" }).close())).toBe(true);
    session.destroy();
    http2.close();
  });

  it.each([
    ["an invalid URL", () => get("http://[")],
    ["an invalid header", () => get(closing, { a: "x\ny" })],
    ["an invalid header of fetch", () => fetch(closing, { headers: { a: "x\ny" } })],
    ["a body that cannot be serialized", () => fetch(closing, { method: "POST", body: JSON.stringify({ n: 1n }) })],
    ["an error of its own", () => Promise.reject(new TypeError("x is not a function"))],
  ])("does not count %s", async (_name, run) => {
    expect(await begins(run)).toBe(false);
  });

  it("marks the watch around it, but not the one beside it, and leaves out what is unwatched", async () => {
    const [outer, beside] = [watchRequests(), watchRequests()];
    const inner = outer.run(() => watchRequests());
    await Promise.all([
      swallow(() => inner.run(() => get(refused))),
      swallow(() => beside.run(() => unwatched(() => get(refused)))),
    ]);
    expect([outer.begun, inner.begun, beside.begun]).toEqual([true, true, false]);
  });
});

describe("an error before the request left makes the row fail", () => {
  const unsent = { kind: "fail", reason: expect.stringMatching(/^not sent/) };
  const mail = {
    rowId: "r",
    to: "ann@example.com",
    from: "us@sender.example",
    fromTenant: false,
    html: "h",
    text: "t",
  };
  const sendgrid = (baseUrl: string) => ({ apiKey: "SG.key", baseUrl, owner: "platform" as const });
  // What a string of more than 512 MB does in JSON.stringify.
  const tooLong = Object.defineProperty({}, "toJSON", {
    value: () => {
      throw new RangeError("Invalid string length");
    },
  }) as unknown as string;

  it("at SendGrid", async () => {
    expect(await sendMail(sendgrid(closing), { ...mail, subject: tooLong }, now)).toMatchObject(unsent);
    expect(await sendMail(sendgrid("http://["), { ...mail, subject: "s" }, now)).toMatchObject(unsent);
    expect(await sendMail(sendgrid(closing), { ...mail, subject: "s" }, now)).toMatchObject({ kind: "unconfirmed" });
    expect(await sendMail(sendgrid(refused), { ...mail, subject: "s" }, now)).toMatchObject({ kind: "retry" });
  });

  it("at SendGrid, in bulk: all rows of the call, none of which counts", async () => {
    const people = ["1", "2"].map((rowId) => ({ rowId, to: "a@b.example", substitutions: {}, unsubscribeUrl: "u" }));
    const send = (subject: string, baseUrl: string) => sendBulk(sendgrid(baseUrl), { ...mail, subject }, people, now);
    expect(await send(tooLong, closing)).toMatchObject([
      { outcome: unsent, providerCalled: false },
      { outcome: unsent, providerCalled: false },
    ]);
    expect(await send("s", closing)).toMatchObject([
      { outcome: { kind: "unconfirmed" }, providerCalled: true },
      { outcome: { kind: "unconfirmed" }, providerCalled: false },
    ]);
  });

  it("at Twilio", async () => {
    const account = (accountSid: string, baseUrl: string) =>
      ({ accountSid, authToken: "t", from: "+15005550006", baseUrl, owner: "platform" }) as const;
    const text = { to: "+13035550100", from: "+15005550006", body: "Hi" };
    const sid = `AC${"0".repeat(32)}`;
    expect(await createMessage(account(sid, "http://["), text)).toMatchObject(unsent);
    const answer = await createMessage(account(sid, closing), text);
    const lost = answer.kind === "refused" ? outcomeOf(answer.error, now(), "platform") : answer;
    expect(lost).toMatchObject({ kind: "unconfirmed" });
  });

  it("at Stripe", async () => {
    const account = (secretKey: string, baseUrl: string) => ({ secretKey, baseUrl, owner: "platform" }) as const;
    const order = {
      tenantId: "t",
      requestId: "r",
      generation: 0,
      name: "Plan",
      amountMinor: 100,
      currency: "usd",
      interval: "one_time",
      successUrl: null,
    } as const;
    const signal = AbortSignal.timeout(10_000);
    const badKey = account("sk_bad\nkey", closing);
    expect(await createPaymentLink(badKey, order, "key")).toMatchObject(unsent);
    expect(await findPaymentLink(badKey, order, signal)).toMatchObject(unsent);
    expect(await deactivatePaymentLink(badKey, "plink_1")).toMatchObject(unsent);
    expect(await deactivatePaymentLink(account("sk_test_1", refused), "plink_1")).toMatchObject({ kind: "retry" });
  });

  it("at Slack, where it means a mail instead; the reason has no URL", async () => {
    const post = (url: string, baseUrl = "https://hooks.slack.com") =>
      postToSlack(url, { title: "t", text: "x" }, { baseUrl, now, signal: AbortSignal.timeout(5000) });
    const withUser = Object.assign(new URL("https://hooks.slack.com/services/T0"), { username: "u", password: "p" });
    expect(await post(withUser.href)).toEqual({
      kind: "fail",
      reason: "The Slack credential's webhook_url is not a webhook of hooks.slack.com",
    });
    expect(await post("https://hooks.slack.com/services/T0", refused)).toMatchObject({ kind: "retry" });
  });
});
