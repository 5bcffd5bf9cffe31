// What /webhooks/stripe accepts: what Stripe signed, byte for byte, within five minutes on either
// side; for a tenant's own account at its own endpoint, with its own secret.
import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { Stripe } from "stripe";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import { isGenuine, isTimely, parseSignature, sign } from "../../src/http/webhooks/stripeSignature.ts";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import { checkout, event, postEvent, WEBHOOK_SECRET } from "../payments/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { startTestServer } from "./support.ts";

const BRAINOPS_SECRET_KEY = randomBytes(32).toString("base64");
const OWN_SECRET = "whsec_of_tenant_a";
const completed = event("checkout.session.completed", 0, checkout("signed", "plink_signed", 100));

let db: TestDatabase;
let server: HttpServer;

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, { STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET, BRAINOPS_SECRET_KEY });
});
afterAll(async () => {
  await server?.close();
  await db?.close();
});
beforeEach(() => db.query("delete from webhook_events"));

const recorded = () => db.query("select tenant_id, provider_event_id, payload from webhook_events");

describe("POST /webhooks/stripe", () => {
  it("records what Stripe signed, once, and queues a job", async () => {
    const first = await postEvent(server, completed);
    expect([first.status, await first.json()]).toEqual([200, { recorded: 1 }]);
    const second = await postEvent(server, completed);
    expect([second.status, await second.json()]).toEqual([200, { recorded: 0 }]);
    expect(await recorded()).toEqual([{ tenant_id: null, provider_event_id: completed.id, payload: completed }]);
    expect(
      await db.query("select from graphile_worker.jobs where task_identifier = 'webhook_event__process'"),
    ).toHaveLength(1);
  });

  it("accepts what Stripe's SDK signs for tests", async () => {
    const payload = JSON.stringify(completed);
    const signature = new Stripe("sk_test_invented").webhooks.generateTestHeaderString({
      payload,
      secret: WEBHOOK_SECRET,
    });
    expect((await postEvent(server, payload, { signature })).status).toBe(200);
  });

  it("refuses a body with any byte changed", async () => {
    const body = Buffer.from(JSON.stringify(completed));
    await fc.assert(
      fc.asyncProperty(fc.nat(body.length - 1), fc.integer({ min: 1, max: 255 }), async (at, by) => {
        const changed = Buffer.from(body);
        changed[at] = (changed[at] ?? 0) ^ by;
        expect((await postEvent(server, completed, { body: changed })).status).toBe(401);
      }),
      { numRuns: 40 },
    );
    expect(await recorded()).toEqual([]);
  });

  it.each([
    ["older than five minutes", { age: 310 }],
    ["more than five minutes in the future", { age: -310 }],
    ["of tomorrow, which the SDK would accept", { age: -86_400 }],
    ["signed with another secret", { secret: "whsec_other" }],
    ["without the header", { signature: null }],
    ["with an empty header", { signature: "" }],
    ["with only a signature of another version", { signature: "t=1,v0=abc" }],
    ["with two timestamps", { signature: "t=1,t=2,v1=abc" }],
  ])("refuses an event %s", async (_name, options) => {
    const answer = await postEvent(server, completed, options);
    expect([answer.status, await answer.json()]).toEqual([401, { error: "This request is not signed by Stripe." }]);
    expect(await recorded()).toEqual([]);
  });

  it.each([
    ["nearly five minutes old", { age: 290 }],
    ["of a clock nearly five minutes ahead", { age: -290 }],
  ])("accepts an event %s", async (_name, options) => {
    expect((await postEvent(server, completed, options)).status).toBe(200);
  });

  it("uses the given clock", async () => {
    const later = await startTestServer(
      db,
      { STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET },
      { now: () => Date.now() + 30 * 86_400_000 },
    );
    try {
      expect((await postEvent(later, completed)).status).toBe(401);
      expect((await postEvent(later, completed, { age: -30 * 86_400 })).status).toBe(200);
    } finally {
      await later.close();
    }
  });

  it.each(["[]", "3", "null", "{", '"evt_1"'])("responds 400 to a signed %s", async (body) => {
    expect((await postEvent(server, body)).status).toBe(400);
    expect(await recorded()).toEqual([]);
  });

  it("accepts characters that jsonb refuses", async () => {
    expect(
      (await postEvent(server, '{"id":"evt_odd","type":"x","data":{"object":{"a":"\\u0000\\ud800"}}}')).status,
    ).toBe(200);
    expect(await recorded()).toMatchObject([{ payload: { data: { object: { a: "\uFFFD\uFFFD" } } } }]);
  });

  it("reports the missing setting if signatures cannot be verified", async () => {
    const poor = await startTestServer(db);
    try {
      const answer = await postEvent(poor, completed);
      expect([answer.status, await answer.json()]).toEqual([
        503,
        { error: "STRIPE_WEBHOOK_SECRET is not set, so events can't be verified. Set it on the server." },
      ]);
    } finally {
      await poor.close();
    }
  });
});

describe("POST /webhooks/stripe/<token>", () => {
  const save = async (credential: object): Promise<string> => {
    const token = await onServer(db.url, (client) =>
      saveCredential(
        client,
        { BRAINOPS_SECRET_KEY: Buffer.from(BRAINOPS_SECRET_KEY, "base64") },
        { tenantId: db.tenantA, provider: "stripe" },
        credential,
      ),
    );
    return `/webhooks/stripe/${token}`;
  };

  it("accepts what the tenant's own account signed, for that tenant", async () => {
    const path = await save({ secret_key: "sk_test_own_account", webhook_secret: OWN_SECRET });
    expect((await postEvent(server, completed, { path, secret: OWN_SECRET })).status).toBe(200);
    expect(await recorded()).toMatchObject([{ tenant_id: db.tenantA, provider_event_id: completed.id }]);
  });

  it("accepts either secret during a rotation, and after the tenant switches the account off", async () => {
    const path = await save({ secret_key: "sk_test_own_account", webhook_secret: `whsec_new, ${OWN_SECRET}` });
    await db.as("tenantA", "update provider_credentials set active = false");
    expect((await postEvent(server, completed, { path, secret: OWN_SECRET })).status).toBe(200);
    expect((await postEvent(server, completed, { path, secret: "whsec_new" })).status).toBe(200);
  });

  it("refuses the platform's secret there, the tenant's secret elsewhere, and an unknown endpoint", async () => {
    const path = await save({ secret_key: "sk_test_own_account", webhook_secret: OWN_SECRET });
    const unknown = `/webhooks/stripe/${"0".repeat(64)}`;
    for (const options of [{ path }, { secret: OWN_SECRET }, { path: unknown, secret: OWN_SECRET }]) {
      expect((await postEvent(server, completed, options)).status).toBe(401);
    }
    expect(await recorded()).toEqual([]);
  });

  it("refuses everything if the account has no webhook secret", async () => {
    const path = await save({ secret_key: "sk_test_own_account" });
    expect((await postEvent(server, completed, { path, secret: OWN_SECRET })).status).toBe(401);
  });

  it("responds 503 if the credential cannot be decrypted", async () => {
    const path = await save({ secret_key: "sk_test_own_account", webhook_secret: OWN_SECRET });
    const other = await startTestServer(db, { BRAINOPS_SECRET_KEY: randomBytes(32).toString("base64") });
    try {
      expect((await postEvent(other, completed, { path, secret: OWN_SECRET })).status).toBe(503);
    } finally {
      await other.close();
    }
  });
});

describe("the signature", () => {
  const body = Buffer.from("{}");
  const v1 = sign(WEBHOOK_SECRET, "1700000000", body);

  it("is valid if any of several v1 values is, whatever else the header contains", () => {
    const parsed = parseSignature(`t=1700000000,v1=${"0".repeat(64)},v1=${v1},v0=x, extra`);
    expect(parsed).not.toBeNull();
    expect(parsed && isGenuine(WEBHOOK_SECRET, parsed, body)).toBe(true);
    expect(parsed && isGenuine("whsec_a,whsec_b", parsed, body)).toBe(false);
    expect(parsed && isGenuine(" , ", parsed, body)).toBe(false);
  });

  it("is timely from 300 seconds before to 300 seconds after, inclusive", () => {
    const signed = { timestamp: "1700000000", signatures: [v1] };
    for (const [offset, timely] of [
      [-301, false],
      [-300, true],
      [0, true],
      [300, true],
      [301, false],
    ] as const) {
      expect(isTimely(signed, (1_700_000_000 + offset) * 1000)).toBe(timely);
    }
  });

  it("is never an error, whatever the header contains", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (text, secret) => {
        const parsed = parseSignature(`t=1700000000,v1=${text}`);
        expect(parsed !== null && isGenuine(secret, parsed, body)).toBe(false);
        expect(() => parseSignature(text)).not.toThrow();
      }),
    );
  });
});
