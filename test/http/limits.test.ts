// Limits of the public routes: who guesses is refused before any query, and nobody else is.
import { randomBytes } from "node:crypto";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { pino } from "pino";
import { clientOf, FailureLimit } from "../../src/http/failures.ts";
import type { HttpServer } from "../../src/http/server.ts";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { startTestServer } from "./support.ts";
import { environment, inboundOf, postTwilio } from "./twilioSupport.ts";

const BURST = 200;
const secretKey = randomBytes(32);

let db: TestDatabase;
let server: HttpServer;
let time = Date.now();
const lines: string[] = [];

const start = (more: Record<string, string> = {}): Promise<HttpServer> =>
  startTestServer(
    db,
    { ...environment, BRAINOPS_SECRET_KEY: secretKey.toString("base64"), ...more },
    {
      now: () => time,
      log: pino({ level: "warn" }, { write: (line: string) => void lines.push(line) }),
    },
  );

beforeAll(async () => {
  db = await createTestDatabase();
});
afterAll(() => db?.close());
beforeEach(async () => {
  lines.splice(0);
  server = await start();
  return () => server.close();
});

const guess = (): string => randomBytes(32).toString("hex");

interface Guesses {
  readonly count: number;
  readonly path?: (token: string) => string;
  readonly method?: string;
  readonly headers?: Record<string, string>;
}

/** The number of answers for each status. */
async function guesses(to: HttpServer, { count, path = (t) => `/unsubscribe/${t}`, ...init }: Guesses) {
  const statuses: Record<number, number> = {};
  const one = async (): Promise<void> => {
    const answer = await fetch(to.url + path(guess()), { method: "POST", ...init });
    await answer.text();
    statuses[answer.status] = (statuses[answer.status] ?? 0) + 1;
  };
  for (let sent = 0; sent < count; sent += 50)
    await Promise.all(Array.from({ length: Math.min(50, count - sent) }, one));
  return statuses;
}

async function link(address: string): Promise<string> {
  const [row] = await db.query<{ token: string }>("select brainops_internal.unsubscribe_token($1, $2) as token", [
    db.tenantA,
    address,
  ]);
  return row?.token ?? "";
}

describe("guesses of links", () => {
  it.each([
    ["POST", "unsubscribe"],
    ["GET", "preferences"],
    ["POST", "confirm"],
  ])("%s /%s/<token> are refused beyond the burst, until time has passed", async (method, page) => {
    const path = (token: string): string => `/${page}/${token}`;
    expect(await guesses(server, { count: BURST + 100, method, path })).toEqual({ 404: BURST, 429: 100 });
    const refused = await fetch(server.url + path(guess()), { method });
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBe(1);
    expect(refused.headers.get("content-type")).toMatch(/^text\/html/);
    expect(await refused.text()).toContain("try again in a few minutes");
    time += 5000;
    expect(await guesses(server, { count: 20, method, path })).toEqual({ 404: 10, 429: 10 });
  });

  it("of all three pages count together, and those at once do, too", async () => {
    const pages = [
      ["POST", "unsubscribe"],
      ["GET", "preferences"],
      ["POST", "confirm"],
    ] as const;
    const all = await Promise.all(
      Array.from({ length: BURST + 10 }, (_, n) => {
        const [method, page] = pages[n % 3] ?? pages[0];
        return fetch(`${server.url}/${page}/${guess()}`, { method });
      }),
    );
    expect(all.filter(({ status }) => status === 429)).toHaveLength(10);
  });

  it.skipIf(!isServer)("are refused without a query (needs server processes)", async () => {
    await guesses(server, { count: BURST });
    const blocker = await db.connect("superuser");
    await blocker.query("begin; lock table email_unsubscribe_links in access exclusive mode");
    expect(await guesses(server, { count: 20 })).toEqual({ 429: 20 });
    await blocker.query("commit");
  });

  it("do not stop those whose tokens are good, however many share an address", async () => {
    const tokens = await Promise.all(Array.from({ length: 20 }, (_, n) => link(`p${n}@shared.example`)));
    for (let round = 0; round < 15; round++) {
      const answers = await Promise.all(
        tokens.map((token) => fetch(`${server.url}/unsubscribe/${token}`, { method: "POST" })),
      );
      expect(new Set(answers.map(({ status }) => status))).toEqual(new Set([200]));
    }
    expect(await guesses(server, { count: 10 })).toEqual({ 404: 10 });
  });
});

describe("the client", () => {
  it("is the connection's address, whatever X-Forwarded-For says; the log says so once", async () => {
    const headers = () => ({ "x-forwarded-for": `198.51.100.${Math.floor(Math.random() * 250)}` });
    const statuses = [];
    for (let n = 0; n < BURST + 5; n++) {
      const answer = await fetch(`${server.url}/unsubscribe/${guess()}`, { method: "POST", headers: headers() });
      statuses.push(answer.status);
    }
    expect(statuses.filter((status) => status === 429)).toHaveLength(5);
    expect(lines.filter((line) => line.includes("TRUSTED_PROXIES"))).toHaveLength(1);
  });

  it("is what the trusted proxy has added to X-Forwarded-For, not what the client wrote there", async () => {
    const proxied = await start({ TRUSTED_PROXIES: "1" });
    const from = (real: string) => ({ headers: { "x-forwarded-for": `${guess().slice(0, 8)}, ${real}` } });
    expect(await guesses(proxied, { count: BURST + 5, ...from("203.0.113.1") })).toEqual({ 404: BURST, 429: 5 });
    expect(await guesses(proxied, { count: 5, ...from("203.0.113.2") })).toEqual({ 404: 5 });
    await proxied.close();
    expect(lines.join("")).not.toContain("TRUSTED_PROXIES");
  });

  it.each([
    ["203.0.113.9", "203.0.113.9"],
    ["::ffff:203.0.113.9", "203.0.113.9"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:DB8:0001:0002::1", "2001:db8:1:2::/64"],
    ["2001:db8::1", "2001:db8:0:0::/64"],
    ["::1", "0:0:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
    ["1:2:3:4:5:6:192.0.2.1", "1:2:3:4::/64"],
    ["::192.0.2.1", "0:0:0:0::/64"],
    ["no address", "no address"],
  ])("of %s is %s", (address, client) => expect(clientOf(address)).toBe(client));
});

describe("a limit", () => {
  it("remembers a bounded number of clients, those seen last", () => {
    const limit = new FailureLimit({ burst: 1, perSecond: 1, maxClients: 100, now: () => 0 });
    expect(limit.take("attacker")).toBe(0);
    for (let n = 0; n < 10_000; n++) {
      limit.take(`2001:db8:0:${n.toString(16)}::/64`);
      expect(limit.take("attacker")).toBe(1);
    }
    expect(limit.size).toBe(100);
  });

  it("forgets a client that has failed nothing", () => {
    const limit = new FailureLimit({ burst: 2, perSecond: 1, now: () => 0 });
    for (let n = 0; n < 1000; n++) {
      expect(limit.take(`${n}`)).toBe(0);
      limit.giveBack(`${n}`);
    }
    expect(limit.size).toBe(0);
  });

  it("never gives more than the burst, and survives a clock that is set back", () => {
    let now = 1_000_000;
    const limit = new FailureLimit({ burst: 2, perSecond: 0.5, now: () => now });
    expect([limit.take("a"), limit.take("a"), limit.take("a")]).toEqual([0, 0, 2]);
    now -= 500_000;
    expect(limit.take("a")).toBe(2);
    now += 1000;
    expect(limit.take("a")).toBe(1);
    now += 3_600_000;
    limit.giveBack("a");
    expect([limit.take("a"), limit.take("a"), limit.take("a")]).toEqual([0, 0, 2]);
  });
});

describe("signed routes", () => {
  const twilio = (token: string) =>
    onServer(db.url, (client) =>
      saveCredential(
        client,
        { BRAINOPS_SECRET_KEY: secretKey },
        { tenantId: db.tenantA, provider: "twilio" },
        { account_sid: `AC${"a".repeat(32)}`, auth_token: token, from: "+13035550199" },
      ),
    );
  const unknownEndpoints = (count: number) =>
    guesses(server, {
      count,
      path: (token) => `/webhooks/twilio/inbound/${token}`,
      headers: { "x-twilio-signature": "bm8=", "content-type": "application/x-www-form-urlencoded" },
    });

  it("refuse unknown endpoints and wrong signatures beyond the burst", async () => {
    expect(await unknownEndpoints(BURST - 1)).toEqual({ 401: BURST - 1 });
    const wrong = () => postTwilio(server, inboundOf("+13035550100", "Hi"), { token: "wrong" });
    expect((await wrong()).status).toBe(401);
    const answer = await wrong();
    expect(answer.status).toBe(429);
    expect(answer.headers.get("retry-after")).toBe("1");
    expect(await answer.json()).toEqual({ error: "Too many requests. Try again in 1 s." });
    expect(await unknownEndpoints(20)).toEqual({ 429: 20 });
    // A flood does not fill the log either.
    expect(lines.filter((line) => line.includes("request refused"))).toHaveLength(BURST);
  });

  it("accept what is signed by the platform's account, whatever else comes from the address", async () => {
    await unknownEndpoints(BURST + 10);
    for (let n = 0; n < 5; n++)
      expect((await postTwilio(server, inboundOf("+13035550100", `Hi ${n}`))).status).toBe(200);
  });

  it("accept what is signed by a tenant's account that they know, whatever else comes from the address", async () => {
    const endpoint = await twilio("own");
    const post = () => ({ ...inboundOf("+13035550100", "Hi"), path: `/webhooks/twilio/inbound/${endpoint}` });
    expect((await postTwilio(server, post(), { token: "own" })).status).toBe(200);
    await unknownEndpoints(BURST + 10);
    expect((await postTwilio(server, post(), { token: "own" })).status).toBe(200);
    expect((await postTwilio(server, post(), { token: "wrong" })).status).toBe(429);
    // The key that is remembered only opens the way to the real check.
    await db.query("delete from provider_credentials; delete from webhook_events");
    expect((await postTwilio(server, post(), { token: "own" })).status).toBe(429);
    expect(await db.query("select from webhook_events")).toEqual([]);
  });

  it("do not limit links, nor links them", async () => {
    await unknownEndpoints(BURST + 10);
    expect(await guesses(server, { count: BURST + 1 })).toEqual({ 404: BURST, 429: 1 });
  });

  it("never limit valid requests", async () => {
    const endpoint = await twilio("own");
    const path = `/webhooks/twilio/inbound/${endpoint}`;
    for (let n = 0; n < BURST * 1.5; n += 30) {
      const posts = Array.from({ length: 30 }, () =>
        postTwilio(server, { ...inboundOf("+13035550100", "Hi"), path }, { token: "own" }),
      );
      for (const { status } of await Promise.all(posts)) expect(status).toBe(200);
    }
  });
});
