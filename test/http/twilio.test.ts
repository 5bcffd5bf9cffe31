// POST /webhooks/twilio/status and /inbound: which requests are accepted, and what is recorded.
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { loadConfig } from "../../src/config.ts";
import { startHttpServer, type HttpServer } from "../../src/http/server.ts";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import { createSentTexts } from "../sms/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { log } from "../support/worker.ts";
import { processEvents, startTestServer } from "./support.ts";
import { bodyOf, environment, inboundOf, postTwilio, publicUrl, sid, statusOf } from "./twilioSupport.ts";

const secretKey = randomBytes(32).toString("base64");

let db: TestDatabase;
let server: HttpServer;

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, { ...environment, BRAINOPS_SECRET_KEY: secretKey });
});
afterAll(async () => {
  await server?.close();
  await db?.close();
});
beforeEach(() => db.query("truncate webhook_events, sms_deliveries, sms_inbound, contact_suppressions"));

const recorded = async (): Promise<number> =>
  (await db.query<{ n: number }>("select count(*)::int as n from webhook_events"))[0]?.n ?? -1;

describe("a request that Twilio signed", () => {
  it("is recorded, and answered without a text to the person", async () => {
    const status = await postTwilio(server, statusOf(undefined, sid(), "delivered"));
    expect([status.status, await status.text()]).toEqual([204, ""]);
    const inbound = await postTwilio(server, inboundOf("+13035550100", "Hi"));
    expect(inbound.status).toBe(200);
    expect(inbound.headers.get("content-type")).toMatch(/^text\/xml/);
    expect(await inbound.text()).toContain("<Response/>");
    expect(await recorded()).toBe(2);
  });

  it.each([
    ["umlauts, emoji and URL characters", { Body: "Grüße 👋 & = + % 100% ?" }],
    ["an empty parameter", { Body: "" }],
    ["an unknown parameter", { BrandNew: "yes" }],
    ["several values of one name", { MediaUrl: ["b", "a", "a"] }],
  ])("is accepted with %s", async (_name, more) => {
    const post = inboundOf("+13035550100", "Hi");
    const parameters = { ...post.parameters, ...more };
    expect((await postTwilio(server, { ...post, parameters })).status).toBe(200);
  });

  it.each([`${publicUrl}:443`, publicUrl])("is accepted if %s was signed", async (origin) => {
    const post = statusOf(undefined, sid(), "sent");
    expect((await postTwilio(server, post, { signedUrl: `${origin}${post.path}` })).status).toBe(204);
  });

  it("is recorded once, however often it arrives", async () => {
    const [one, other] = [statusOf(undefined, sid(), "sent"), inboundOf("+13035550100", "Hi")];
    const posts = [one, other, one, other, one].map((post) => postTwilio(server, post));
    for (const response of await Promise.all(posts)) expect(response.ok).toBe(true);
    expect(await recorded()).toBe(2);
  });
});

describe("a request that Twilio did not sign", () => {
  it("is refused if any byte of the body is changed", async () => {
    const post = inboundOf("+13035550100", "Please call me");
    const body = bodyOf(post.parameters);
    await fc.assert(
      fc.asyncProperty(fc.nat(body.length - 1), fc.constantFrom("x", "0", "&", "="), async (at, byte) => {
        const changed = body.slice(0, at) + byte + body.slice(at + 1);
        // Twilio signs the decoded parameters: skip changes that decode to the same.
        fc.pre(`${[...new URLSearchParams(changed)].toSorted()}` !== `${[...new URLSearchParams(body)].toSorted()}`);
        expect((await postTwilio(server, post, { sentBody: changed })).status).toBe(401);
      }),
      { numRuns: 60 },
    );
    expect(await recorded()).toBe(0);
  });

  it.each([
    ["no signature", { signature: "" }],
    ["a nonsense signature", { signature: "bm9uc2Vuc2U=" }],
    ["another token's signature", { token: "another" }],
    [
      "another row in the query",
      { sentPath: `/webhooks/twilio/status?row=${"1".repeat(8)}-0000-4000-8000-000000000000` },
    ],
    ["the server's real address", { signedUrl: "http://127.0.0.1/webhooks/twilio/status" }],
  ])("is refused: %s", async (_name, changes) => {
    const post = statusOf("00000000-0000-4000-8000-000000000000", sid(), "delivered");
    const response = await postTwilio(server, post, changes);
    expect([response.status, await response.json()]).toEqual([401, { error: "This request is not signed by Twilio." }]);
    expect(await recorded()).toBe(0);
  });

  it("is refused with a parameter moved from the body to the end of the query, which leaves the signed text as it was", async () => {
    for (const post of [
      statusOf("00000000-0000-4000-8000-000000000000", sid(), "failed"),
      inboundOf("+13035550100", "Hi"),
    ]) {
      const [[name, value], ...rest] = Object.entries(post.parameters).toSorted(([a], [b]) => (a < b ? -1 : 1)) as [
        [string, string],
        ...[string, string][],
      ];
      const body = new URLSearchParams(rest).toString();
      for (const sentPath of [`${post.path}${name}${value}`, `${post.path}?${name}${value}`]) {
        const answer = await postTwilio(server, post, { sentPath, sentBody: body });
        expect([401, 404]).toContain(answer.status);
      }
    }
    expect(await recorded()).toBe(0);
  });

  it.each(["/webhooks/twilio/inbound?x=1", "/webhooks/twilio/status?x=1", "/webhooks/twilio/status?row=1"])(
    "is refused at %s, a URL that this program never gave to Twilio",
    async (path) => {
      const post = inboundOf("+13035550100", "Hi");
      expect((await postTwilio(server, { ...post, path })).status).toBe(401);
    },
  );

  it("is 413 if it is too large, and 405 or 404 with another method", async () => {
    const post = inboundOf("+13035550100", "x".repeat(70_000));
    expect((await postTwilio(server, post)).status).toBe(413);
    expect([404, 405]).toContain((await fetch(`${server.url}/webhooks/twilio/inbound`)).status);
  });
});

describe("without the settings that verify a signature", () => {
  it("the server responds 503 and names what is missing", async () => {
    const bare = await startTestServer(db, { PUBLIC_URL: publicUrl });
    const homeless = await startHttpServer({
      config: loadConfig({ ...environment, PUBLIC_URL: undefined, PORT: "0" }),
      log,
      connectionString: db.urlOf("worker"),
    });
    const answers = await Promise.all(
      [bare, homeless].map((each) => postTwilio(each, inboundOf("+13035550100", "Hi"))),
    );
    const texts = await Promise.all(answers.map((answer) => answer.text()));
    await Promise.all([bare.close(), homeless.close()]);
    expect(answers.map(({ status }) => status)).toEqual([503, 503]);
    expect(texts[0]).toContain("TWILIO_AUTH_TOKEN is not set");
    expect(texts[1]).toContain("PUBLIC_URL is not set");
  });
});

describe("a tenant's own account", () => {
  const save = (token: string) =>
    onServer(db.url, (client) =>
      saveCredential(
        client,
        { BRAINOPS_SECRET_KEY: Buffer.from(secretKey, "base64") },
        { tenantId: db.tenantA, provider: "twilio" },
        { account_sid: `AC${"a".repeat(32)}`, auth_token: token, from: "+13035550199" },
      ),
    );
  const at = (endpoint: string, kind: string, post: ReturnType<typeof inboundOf>) => ({
    ...post,
    path: post.path.replace(`/webhooks/twilio/${kind}`, `/webhooks/twilio/${kind}/${endpoint}`),
  });

  it("is accepted at its own endpoint with its own token, and nowhere else", async () => {
    const endpoint = await save("its own token");
    const post = inboundOf("+13035550100", "STOP", { To: "+13035550199" });
    const own = at(endpoint, "inbound", post);
    expect((await postTwilio(server, own)).status).toBe(401);
    expect((await postTwilio(server, post, { token: "its own token" })).status).toBe(401);
    expect((await postTwilio(server, at("0".repeat(64), "inbound", post), { token: "its own token" })).status).toBe(
      401,
    );
    expect((await postTwilio(server, own, { token: "its own token" })).status).toBe(200);
    await processEvents(db);
    expect(await db.query("select tenant_id, address, reason from contact_suppressions")).toEqual([
      { tenant_id: db.tenantA, address: "+13035550100", reason: "unsubscribed" },
    ]);
  });

  it("cannot report on another tenant's texts", async () => {
    const endpoint = await save("its own token");
    const [theirs] = await createSentTexts(db, db.tenantB, [{ to: "+13035550100" }]);
    const post = at(endpoint, "status", statusOf(theirs, sid(), "failed", { To: "+13035550100", ErrorCode: "30005" }));
    expect((await postTwilio(server, post, { token: "its own token" })).status).toBe(204);
    await processEvents(db);
    expect(await db.query("select status, skip_reason from webhook_events")).toEqual([
      { status: "skipped", skip_reason: "the callback is about no text that went through this account" },
    ]);
    expect(await db.query("select from contact_suppressions")).toEqual([]);
  });

  it("is still accepted after it is switched off: a STOP to it counts", async () => {
    const endpoint = await save("its own token");
    await db.query("update provider_credentials set active = false");
    const post = at(endpoint, "inbound", inboundOf("+13035550101", "stop"));
    expect((await postTwilio(server, post, { token: "its own token" })).status).toBe(200);
  });
});
