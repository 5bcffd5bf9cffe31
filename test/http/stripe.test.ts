// What may come in by /webhooks/stripe: what Stripe signed, byte for byte, within five minutes on
// either side; for a tenant's own account at its own endpoint, with its own secret.
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
const told = event("checkout.session.completed", 0, checkout("signed", "plink_signed", 100));

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
  it("writes down what Stripe signed, once, and sets a job", async () => {
    const first = await postEvent(server, told);
    expect([first.status, await first.json()]).toEqual([200, { recorded: 1 }]);
    const second = await postEvent(server, told);
    expect([second.status, await second.json()]).toEqual([200, { recorded: 0 }]);
    expect(await recorded()).toEqual([{ tenant_id: null, provider_event_id: told.id, payload: told }]);
    expect(
      await db.query("select from graphile_worker.jobs where task_identifier = 'webhook_event__process'"),
    ).toHaveLength(1);
  });

  it("takes what the SDK of Stripe signs for tests", async () => {
    const payload = JSON.stringify(told);
    const signature = new Stripe("sk_test_invented").webhooks.generateTestHeaderString({
      payload,
      secret: WEBHOOK_SECRET,
    });
    expect((await postEvent(server, payload, { signature })).status).toBe(200);
  });

  it("refuses a body with any one byte changed", async () => {
    const body = Buffer.from(JSON.stringify(told));
    await fc.assert(
      fc.asyncProperty(fc.nat(body.length - 1), fc.integer({ min: 1, max: 255 }), async (at, by) => {
        const changed = Buffer.from(body);
        changed[at] = (changed[at] ?? 0) ^ by;
        expect((await postEvent(server, told, { body: changed })).status).toBe(401);
      }),
      { numRuns: 40 },
    );
    expect(await recorded()).toEqual([]);
  });

  it.each([
    ["older than five minutes", { age: 310 }],
    ["more than five minutes in the future", { age: -310 }],
    ["of tomorrow, which the SDK would take", { age: -86_400 }],
    ["signed with another secret", { secret: "whsec_other" }],
    ["without the header", { signature: null }],
    ["with an empty header", { signature: "" }],
    ["with a signature of another version alone", { signature: "t=1,v0=abc" }],
    ["with two times", { signature: "t=1,t=2,v1=abc" }],
  ])("refuses one %s", async (_name, sent) => {
    const answer = await postEvent(server, told, sent);
    expect([answer.status, await answer.json()]).toEqual([401, { error: "This request is not signed by Stripe." }]);
    expect(await recorded()).toEqual([]);
  });

  it.each([
    ["nearly five minutes old", { age: 290 }],
    ["of a clock nearly five minutes ahead", { age: -290 }],
  ])("takes one %s", async (_name, sent) => {
    expect((await postEvent(server, told, sent)).status).toBe(200);
  });

  it("asks the clock that it is given", async () => {
    const later = await startTestServer(
      db,
      { STRIPE_WEBHOOK_SECRET: WEBHOOK_SECRET },
      { now: () => Date.now() + 30 * 86_400_000 },
    );
    try {
      expect((await postEvent(later, told)).status).toBe(401);
      expect((await postEvent(later, told, { age: -30 * 86_400 })).status).toBe(200);
    } finally {
      await later.close();
    }
  });

  it.each(["[]", "3", "null", "{", '"evt_1"'])("answers 400 to %s, signed", async (body) => {
    expect((await postEvent(server, body)).status).toBe(400);
    expect(await recorded()).toEqual([]);
  });

  it("takes characters that jsonb refuses", async () => {
    expect(
      (await postEvent(server, '{"id":"evt_odd","type":"x","data":{"object":{"a":"\\u0000\\ud800"}}}')).status,
    ).toBe(200);
    expect(await recorded()).toMatchObject([{ payload: { data: { object: { a: "\uFFFD\uFFFD" } } } }]);
  });

  it("says what is not set, where nothing can be verified", async () => {
    const poor = await startTestServer(db);
    try {
      const answer = await postEvent(poor, told);
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

  it("takes what the tenant's own account signed, for that tenant", async () => {
    const path = await save({ secret_key: "sk_test_own_account", webhook_secret: OWN_SECRET });
    expect((await postEvent(server, told, { path, secret: OWN_SECRET })).status).toBe(200);
    expect(await recorded()).toMatchObject([{ tenant_id: db.tenantA, provider_event_id: told.id }]);
  });

  it("takes either secret while the account changes it, and goes on when the tenant switches it off", async () => {
    const path = await save({ secret_key: "sk_test_own_account", webhook_secret: `whsec_new, ${OWN_SECRET}` });
    await db.as("tenantA", "update provider_credentials set active = false");
    expect((await postEvent(server, told, { path, secret: OWN_SECRET })).status).toBe(200);
    expect((await postEvent(server, told, { path, secret: "whsec_new" })).status).toBe(200);
  });

  it("refuses the installation's secret there, the tenant's elsewhere, and an endpoint of nobody", async () => {
    const path = await save({ secret_key: "sk_test_own_account", webhook_secret: OWN_SECRET });
    const nobody = `/webhooks/stripe/${"0".repeat(64)}`;
    for (const sent of [{ path }, { secret: OWN_SECRET }, { path: nobody, secret: OWN_SECRET }]) {
      expect((await postEvent(server, told, sent)).status).toBe(401);
    }
    expect(await recorded()).toEqual([]);
  });

  it("refuses everything where the account has no webhook secret", async () => {
    const path = await save({ secret_key: "sk_test_own_account" });
    expect((await postEvent(server, told, { path, secret: OWN_SECRET })).status).toBe(401);
  });

  it("is 503 where the credential can't be opened", async () => {
    const path = await save({ secret_key: "sk_test_own_account", webhook_secret: OWN_SECRET });
    const other = await startTestServer(db, { BRAINOPS_SECRET_KEY: randomBytes(32).toString("base64") });
    try {
      expect((await postEvent(other, told, { path, secret: OWN_SECRET })).status).toBe(503);
    } finally {
      await other.close();
    }
  });
});

describe("the signature", () => {
  const body = Buffer.from("{}");
  const v1 = sign(WEBHOOK_SECRET, "1700000000", body);

  it("holds where any of several v1 does, and whatever stands beside", () => {
    const parsed = parseSignature(`t=1700000000,v1=${"0".repeat(64)},v1=${v1},v0=x, extra`);
    expect(parsed).not.toBeNull();
    expect(parsed && isGenuine(WEBHOOK_SECRET, parsed, body)).toBe(true);
    expect(parsed && isGenuine("whsec_a,whsec_b", parsed, body)).toBe(false);
    expect(parsed && isGenuine(" , ", parsed, body)).toBe(false);
  });

  it("is timely from 300 seconds before to 300 after, and no second longer", () => {
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

  it("is never an error, whatever the header says", () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), (text, secret) => {
        const parsed = parseSignature(`t=1700000000,v1=${text}`);
        expect(parsed !== null && isGenuine(secret, parsed, body)).toBe(false);
        expect(() => parseSignature(text)).not.toThrow();
      }),
    );
  });
});
