import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { type FaultRule, type SendgridSimulator, startSendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { createBody, createMailer, post } from "./helpers.ts";

let simulator: SendgridSimulator;
beforeEach(async () => {
  simulator = await startSendgridSimulator({ seed: 7 });
});
afterEach(() => simulator.close());

/** One send through the SDK, as our code does it. */
function send(to = "ann@example.com", timeoutMs = 5000): Promise<number> {
  const mail = { to, from: "shop@example.com", subject: "Hello", text: "Hello", customArgs: { bo_msg: "row-1" } };
  return createMailer(simulator, "SG.simulator", timeoutMs)
    .send(mail)
    .then(([response]) => response.statusCode);
}

describe("what the client sees, and whether the mail was sent", () => {
  const answered: [FaultRule, number, number, object][] = [
    [{ kind: "rate_limited" }, 429, 0, { message: "too many requests", field: null }],
    [{ kind: "server_error" }, 500, 0, { message: "internal server error" }],
    [{ kind: "server_error", status: 503 }, 503, 0, {}],
    [{ kind: "server_error", moment: "after" }, 500, 1, { message: "internal server error" }],
    [{ kind: "unauthorized" }, 401, 0, { message: expect.stringContaining("authorization grant is invalid") }],
    [{ kind: "forbidden" }, 403, 0, { field: "from", message: expect.stringContaining("verified Sender Identity") }],
    [{ kind: "bad_request", message: "No.", field: "subject" }, 400, 0, { message: "No.", field: "subject" }],
  ];
  test.each(answered)("%o", async (rule, status, accepted, error) => {
    simulator.faults.add(rule);
    await expect(send()).rejects.toMatchObject({ code: status, response: { body: { errors: [error] } } });
    expect(simulator.acceptedCount("row-1")).toBe(accepted);
    expect(simulator.stats.queuedEvents).toBe(accepted * 2);
    // A fault applies to one request by default: the next one succeeds.
    expect(await send()).toBe(202);
    expect(simulator.stats).toMatchObject({ faulted: 1, accepted: 1 });
  });

  test.each([
    ["before", 0],
    ["after", 1],
  ] as const)("a reset %s acceptance is ECONNRESET", async (moment, accepted) => {
    simulator.faults.add({ kind: "reset", moment });
    await expect(send()).rejects.toMatchObject({ code: "ECONNRESET" });
    expect(simulator.acceptedCount("row-1")).toBe(accepted);
  });

  test("a slow response exceeds the client's timeout, although the mail is sent", async () => {
    simulator.faults.add({ kind: "slow", delayMs: 60_000 });
    const sending = send("ann@example.com", 200).catch((error: unknown) => error);
    await simulator.waitFor((stats) => stats.messages === 1);
    expect(await sending).toMatchObject({ code: "ECONNABORTED" });
    expect(simulator.acceptedCount("row-1")).toBe(1);
  });

  test("a slow response within the timeout is a 202", async () => {
    simulator.faults.add({ kind: "slow", delayMs: 20 });
    expect(await send()).toBe(202);
  });

  test("a 429 reports when to retry", async () => {
    await using timed = await startSendgridSimulator({ now: () => 1_700_000_000_000 });
    timed.faults.add({ kind: "rate_limited", resetSeconds: 30 });
    const { headers } = await post(timed, createBody());
    expect(headers.get("x-ratelimit-remaining")).toBe("0");
    expect(headers.get("x-ratelimit-reset")).toBe("1700000030");
  });
});

describe("a fault applies to", () => {
  async function statuses(count: number, to = (index: number) => `user${index}@example.com`): Promise<number[]> {
    const seen: number[] = [];
    for (let index = 0; index < count; index++) seen.push((await post(simulator, createBody(to(index)))).status);
    return seen;
  }

  test("the next N requests, with rules in their order", async () => {
    simulator.faults.add({ kind: "server_error", times: 2 });
    simulator.faults.add({ kind: "rate_limited" });
    expect(await statuses(4)).toEqual([500, 500, 429, 202]);
  });

  test("a share of all requests, the same for the same seed", async () => {
    const fault = simulator.faults.add({ kind: "server_error", probability: 0.3 });
    const first = await statuses(100);
    expect(fault.struck).toBe(first.filter((status) => status === 500).length);
    expect(fault.struck).toBeGreaterThan(15);
    expect(fault.struck).toBeLessThan(45);
    await simulator.close();
    simulator = await startSendgridSimulator({ seed: 7 });
    simulator.faults.add({ kind: "server_error", probability: 0.3 });
    expect(await statuses(100)).toEqual(first);
  });

  test("matching recipients, until it is removed", async () => {
    const fault = simulator.faults.add({ kind: "bad_request", message: "No.", recipient: "user*@EXAMPLE.com" });
    expect(await statuses(3, (index) => (index === 1 ? "other@example.com" : "user@example.com"))).toEqual([
      400, 202, 400,
    ]);
    fault.remove();
    expect(await statuses(1)).toEqual([202]);
  });

  test("no request that is refused anyway", async () => {
    const fault = simulator.faults.add({ kind: "server_error" });
    expect((await post(simulator, {})).status).toBe(400);
    expect(fault).toMatchObject({ struck: 0, remaining: 1 });
    simulator.faults.clear();
    expect(await statuses(1)).toEqual([202]);
  });
});

test("close() does not wait for a client that hangs", async () => {
  simulator.faults.add({ kind: "slow", delayMs: 60_000 });
  const sending = send().catch((error: unknown) => error);
  await simulator.waitFor((stats) => stats.faulted === 1);
  await simulator.close();
  expect(await sending).toMatchObject({ code: "ECONNRESET" });
});

test("waitFor reports the last stats when it times out", async () => {
  await expect(simulator.waitFor((stats) => stats.messages === 1, 10)).rejects.toThrow('"messages":0');
});
