import { afterAll, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { type SendgridSimulator, startSendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createBody, createMailer, post } from "./helpers.ts";
import examples from "./mail-send.examples.json" with { type: "json" };

let simulator: SendgridSimulator;
beforeAll(async () => {
  simulator = await startSendgridSimulator();
});
beforeEach(() => simulator.reset());
afterAll(() => simulator.close());

describe("through the SDK", () => {
  test("a mail is accepted with 202, an empty body and an X-Message-Id, and recorded", async () => {
    const [response] = await createMailer(simulator).send({
      to: { email: "ann@example.com", name: "Ann" },
      from: "shop@example.com",
      subject: "Hello",
      text: "plain",
      html: "<p>rich</p>",
      headers: { "List-Unsubscribe": "<https://example.com/u/1>" },
      customArgs: { bo_msg: "row-1" },
    });
    expect(response.statusCode).toBe(202);
    expect(response.body).toBe("");
    const id = (response.headers as Record<string, string>)["x-message-id"];
    expect(id).toMatch(/^[\w-]{22}$/);
    expect(simulator.messages).toMatchObject([
      {
        messageId: id,
        to: [{ email: "ann@example.com", name: "Ann" }],
        from: { email: "shop@example.com" },
        subject: "Hello",
        content: [
          { type: "text/plain", value: "plain" },
          { type: "text/html", value: "<p>rich</p>" },
        ],
        headers: { "List-Unsubscribe": "<https://example.com/u/1>" },
        customArgs: { bo_msg: "row-1" },
      },
    ]);
    expect(simulator.acceptedCount("row-1")).toBe(1);
    expect(simulator.acceptedCount("row-2")).toBe(0);
  });

  test("each personalization is one message, and its values override the request's", async () => {
    await createMailer(simulator).send({
      from: "shop@example.com",
      subject: "For all",
      text: "Hello",
      customArgs: { campaign: "spring", bo_msg: "none" },
      personalizations: [
        { to: "ann@example.com", customArgs: { bo_msg: "row-1" }, headers: { "X-Mail": "1" } },
        { to: "bob@example.com", customArgs: { bo_msg: "row-2" }, subject: "For Bob" },
      ],
    });
    expect(simulator.messages.map(({ subject, customArgs, headers }) => ({ subject, customArgs, headers }))).toEqual([
      { subject: "For all", customArgs: { campaign: "spring", bo_msg: "row-1" }, headers: { "X-Mail": "1" } },
      { subject: "For Bob", customArgs: { campaign: "spring", bo_msg: "row-2" }, headers: {} },
    ]);
    expect(new Set(simulator.messages.map((message) => message.messageId)).size).toBe(1);
    expect(simulator.stats).toMatchObject({ requests: 1, accepted: 1, messages: 2, rows: 2 });
  });

  test("a wrong key is a 401 in SendGrid's shape", async () => {
    const sent = createMailer(simulator, "SG.other").send({
      to: "ann@example.com",
      from: "shop@example.com",
      subject: "Hello",
      text: "Hello",
    });
    await expect(sent).rejects.toMatchObject({
      code: 401,
      response: {
        body: {
          errors: [
            { message: "The provided authorization grant is invalid, expired, or revoked", field: null, help: null },
          ],
        },
      },
    });
    expect(simulator.stats).toMatchObject({ refused: 1, messages: 0 });
  });

  test("sandbox mode is a 200 that sends nothing", async () => {
    const [response] = await createMailer(simulator).send({
      to: "ann@example.com",
      from: "shop@example.com",
      subject: "Hello",
      text: "Hello",
      mailSettings: { sandboxMode: { enable: true } },
    });
    expect(response.statusCode).toBe(200);
    expect(simulator.stats).toMatchObject({ sandboxed: 1, messages: 0, queuedEvents: 0 });
  });

  test("a row sent twice is reported as a duplicate", async () => {
    await post(simulator, createBody("ann@example.com"));
    await post(simulator, createBody("ann@example.com"));
    await post(simulator, createBody("bob@example.com"));
    expect(simulator.acceptedCount("row-of-ann@example.com")).toBe(2);
    expect(simulator.duplicates()).toEqual([{ rowId: "row-of-ann@example.com", count: 2 }]);
  });
});

describe("the protocol around the body", () => {
  test("every response has the rate headers; above the limit it is a 429 until the next second", async () => {
    let now = 1_700_000_000_000;
    await using limited = await startSendgridSimulator({ requestsPerSecond: 1, now: () => now });
    const first = await post(limited, createBody());
    expect(first.status).toBe(202);
    expect(first.headers.get("x-ratelimit-limit")).toBe("1");
    expect(first.headers.get("x-ratelimit-remaining")).toBe("0");
    expect(first.headers.get("x-ratelimit-reset")).toBe("1700000001");
    const second = await post(limited, createBody());
    expect(second).toMatchObject({ status: 429, errors: [{ field: null, message: "too many requests" }] });
    now += 1000;
    expect((await post(limited, createBody())).status).toBe(202);
  });

  test.each([
    [
      "no bearer",
      { Authorization: "Basic SG.simulator" },
      401,
      "The provided authorization grant is invalid, expired, or revoked",
    ],
    [
      "an empty key",
      { Authorization: "Bearer " },
      401,
      "The provided authorization grant is invalid, expired, or revoked",
    ],
    ["another media type", { "Content-Type": "text/plain" }, 415, "Content-Type should be application/json"],
  ])("%s", async (_name, headers, status, message) => {
    expect(await post(simulator, createBody(), headers)).toMatchObject({
      status,
      errors: [{ message, field: null, help: null }],
    });
  });

  test("a missing key is a 401 with the message of the API description", async () => {
    const answer = await fetch(`${simulator.url}/v3/mail/send`, { method: "POST", body: "{}" });
    expect(answer.status).toBe(401);
    expect(await answer.json()).toMatchObject({ errors: [{ message: "authorization required" }] });
  });

  test("another method is a 405, another path a 404, and invalid JSON a 400", async () => {
    expect((await fetch(`${simulator.url}/v3/mail/send`)).status).toBe(405);
    expect((await fetch(`${simulator.url}/v3/nothing`)).status).toBe(404);
    expect(await post(simulator, "{")).toMatchObject({
      status: 400,
      errors: [{ message: "Bad Request", field: null }],
    });
  });

  test("bytes that are not UTF-8 are a 400", async () => {
    const answer = await fetch(`${simulator.url}/v3/mail/send`, {
      method: "POST",
      body: new Uint8Array([0x22, 0xff, 0x22]),
      headers: { Authorization: "Bearer SG.simulator", "Content-Type": "application/json" },
    });
    expect(answer.status).toBe(400);
    expect(await answer.json()).toMatchObject({ errors: [{ message: "Invalid UTF8 in request." }] });
  });

  test("30 MB and more is a 413, just below is accepted", async () => {
    const empty = JSON.stringify(
      createBody("ann@example.com", { content: [{ type: "text/plain", value: "" }] }),
    ).length;
    const sized = (bytes: number) =>
      createBody("ann@example.com", { content: [{ type: "text/plain", value: "x".repeat(bytes - empty) }] });
    expect(await post(simulator, sized(30_000_000))).toMatchObject({
      status: 413,
      errors: [{ message: "content too large" }],
    });
    expect((await post(simulator, sized(29_999_999))).status).toBe(202);
  });

  test("a port in use is an error, not a hang", async () => {
    await expect(startSendgridSimulator({ port: Number(new URL(simulator.url).port) })).rejects.toThrow("EADDRINUSE");
  });
});

test.each(["MailSendDynamicTemplate", "MailSendNoTemplate"] as const)(
  "the documentation's own example %s is accepted",
  async (name) => {
    expect(await post(simulator, examples[name])).toMatchObject({ status: 202, errors: [] });
  },
);
