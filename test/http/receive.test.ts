// What all signed routes have in common: they refuse for the same reasons, in the same order.
import { randomBytes } from "node:crypto";
import { pino } from "pino";
import { Webhook } from "standardwebhooks";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import type { CredentialProvider } from "../../src/revenue/credentials/shapes.ts";
import { postEvent } from "../payments/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { createSigner, postEvents, startTestServer } from "./support.ts";
import { inboundOf, postTwilio } from "./twilioSupport.ts";

const secretKey = randomBytes(32);
const sendgrid = { own: createSigner(), other: createSigner() };
const formSecret = (): string => `whsec_${randomBytes(32).toString("base64")}`;
const form = { own: formSecret(), other: formSecret() };

interface SignedRoute {
  readonly provider: CredentialProvider;
  readonly path: string;
  readonly signer: string;
  readonly credential: object;
  /** Posts a body (malformed, if the format allows that), signed with the endpoint's key or with another. */
  post(server: HttpServer, path: string, key: "own" | "other"): Promise<Response>;
  /** The status for that body if the signature is valid. */
  readonly signed: 200 | 204 | 400;
  /** The response if BRAINOPS_SECRET_KEY does not decrypt the credential. */
  readonly sealed: readonly [status: number, error: string];
}

const sealedAccount =
  "BRAINOPS_SECRET_KEY is not set, or is not the key that the account was encrypted with, so events can't be verified. Set it on the server.";
const twilio = (kind: "status" | "inbound"): SignedRoute => ({
  provider: "twilio",
  path: `/webhooks/twilio/${kind}`,
  signer: "Twilio",
  credential: { account_sid: `AC${"a".repeat(32)}`, auth_token: "own", from: "+13035550199" },
  post: (to, path, key) => postTwilio(to, { ...inboundOf("+13035550100", "Hi"), path }, { token: key }),
  signed: kind === "status" ? 204 : 200,
  sealed: [503, sealedAccount],
});
const routes: readonly SignedRoute[] = [
  {
    provider: "sendgrid",
    path: "/webhooks/sendgrid",
    signer: "SendGrid",
    credential: { api_key: "SG.invented", webhook_public_key: sendgrid.own.publicKey },
    post: (to, path, key) => postEvents(to, sendgrid[key], "{", { path }),
    signed: 400,
    sealed: [503, sealedAccount],
  },
  twilio("status"),
  twilio("inbound"),
  {
    provider: "stripe",
    path: "/webhooks/stripe",
    signer: "Stripe",
    credential: { secret_key: "sk_test_invented", webhook_secret: "own" },
    post: (to, path, secret) => postEvent(to, "{", { path, secret }),
    signed: 400,
    sealed: [503, sealedAccount],
  },
  {
    provider: "form",
    path: "/forms",
    signer: "the form's server",
    credential: { secret: form.own },
    post: (to, path, key) => {
      const at = new Date();
      return fetch(to.url + path, {
        method: "POST",
        body: "{",
        headers: {
          "webhook-id": "msg_1",
          "webhook-timestamp": String(Math.floor(at.getTime() / 1000)),
          "webhook-signature": new Webhook(form[key]).sign("msg_1", at, "{"),
        },
      });
    },
    signed: 400,
    sealed: [
      503,
      "BRAINOPS_SECRET_KEY is not set, or is not the key that the form's secret was encrypted with. Set it on the server.",
    ],
  },
];

let db: TestDatabase;
let server: HttpServer;
let stranger: HttpServer;
const lines: string[] = [];

beforeAll(async () => {
  db = await createTestDatabase();
  const log = pino({ level: "warn" }, { write: (line: string) => void lines.push(line) });
  server = await startTestServer(db, { BRAINOPS_SECRET_KEY: secretKey.toString("base64") }, { log });
  stranger = await startTestServer(db, { BRAINOPS_SECRET_KEY: randomBytes(32).toString("base64") }, { log });
});
afterAll(async () => {
  await server?.close();
  await stranger?.close();
  await db?.close();
});
beforeEach(() => void lines.splice(0));

const endpointOf = async ({ provider, path, credential }: SignedRoute): Promise<string> => {
  const keys = { BRAINOPS_SECRET_KEY: secretKey };
  const place = { tenantId: db.tenantA, provider };
  return `${path}/${await onServer(db.url, (client) => saveCredential(client, keys, place, credential))}`;
};

describe.each(routes)("$path/<token>", (route) => {
  it("is 401 for an unknown token, another key and no signature, and logs which", async () => {
    const endpoint = await endpointOf(route);
    const answers = [
      await route.post(server, `${route.path}/${"0".repeat(64)}`, "own"),
      await route.post(server, endpoint, "other"),
      await fetch(server.url + endpoint, { method: "POST", body: "{" }),
    ];
    for (const answer of answers) {
      expect(answer.status).toBe(401);
      expect(await answer.json()).toEqual({ error: `This request is not signed by ${route.signer}.` });
    }
    const logged = lines.map((line) => JSON.parse(line) as { reason: string; msg: string });
    expect(logged.map(({ reason }) => reason)).toEqual([
      "unknown endpoint token",
      "invalid signature",
      "missing or malformed signature header",
    ]);
    expect(new Set(logged.map(({ msg }) => msg))).toEqual(new Set([`${route.provider} webhook: request refused`]));
    expect(lines.join("")).not.toMatch(/[0-9a-f]{64}/);
  });

  it("parses a body only after its signature is verified", async () => {
    const endpoint = await endpointOf(route);
    expect((await route.post(server, endpoint, "own")).status).toBe(route.signed);
    expect((await route.post(server, endpoint, "other")).status).toBe(401);
  });

  it("reports the cause if BRAINOPS_SECRET_KEY does not decrypt the credential", async () => {
    const answer = await route.post(stranger, await endpointOf(route), "own");
    expect([answer.status, await answer.json()]).toEqual([route.sealed[0], { error: route.sealed[1] }]);
  });
});
