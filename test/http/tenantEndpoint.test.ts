// A tenant's own SendGrid account posts to its own endpoint, signed with its own key; whatever it
// reports, it can only affect this tenant's mails.
import { randomBytes, randomUUID } from "node:crypto";
import { afterAll, beforeAll, beforeEach, expect, it } from "vitest";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import type { HttpServer } from "../../src/http/server.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { createEvent, createSentEmails, createSigner, postEvents, processEvents, startTestServer } from "./support.ts";

const secretKey = randomBytes(32).toString("base64");
const platform = createSigner();
const own = createSigner();

let db: TestDatabase;
let server: HttpServer;
let path: string;

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, {
    SENDGRID_WEBHOOK_PUBLIC_KEY: platform.publicKey,
    BRAINOPS_SECRET_KEY: secretKey,
  });
});
afterAll(async () => {
  await server?.close();
  await db?.close();
});
beforeEach(async () => {
  await db.query("delete from contact_suppressions");
  path = `/webhooks/sendgrid/${await saveOwn({ api_key: "SG.invented", webhook_public_key: own.publicKey })}`;
});

const saveOwn = (credential: object): Promise<string> =>
  onServer(db.url, (client) =>
    saveCredential(
      client,
      { BRAINOPS_SECRET_KEY: Buffer.from(secretKey, "base64") },
      { tenantId: db.tenantA, provider: "sendgrid" },
      credential,
    ),
  );

const complaint = (mail: string | undefined, email: string) =>
  createEvent({ event: "spamreport", bo_msg: mail, email });
const suppressed = () => db.query("select tenant_id, address from contact_suppressions");

it("accepts what the tenant's own account signed, for that tenant", async () => {
  const [mail] = await createSentEmails(db, db.tenantA, ["ann@x.example"]);
  expect((await postEvents(server, own, [complaint(mail, "ann@x.example")], { path })).status).toBe(200);
  await processEvents(db);
  expect(await suppressed()).toEqual([{ tenant_id: db.tenantA, address: "ann@x.example" }]);
});

it("never affects another tenant's mails, whatever the account signs", async () => {
  const [theirs] = await createSentEmails(db, db.tenantB, ["bob@x.example"]);
  expect((await postEvents(server, own, [complaint(theirs, "bob@x.example")], { path })).status).toBe(200);
  await processEvents(db);
  expect(await suppressed()).toEqual([]);
  expect(await db.query("select skip_reason from webhook_events where payload ->> 'bo_msg' = $1", [theirs])).toEqual([
    { skip_reason: "the event is about no message that went through this account" },
  ]);
});

it("does not show the tenant whom another tenant mailed, by any of the ways to find a mail", async () => {
  const [theirs] = await createSentEmails(db, db.tenantB, ["only-b-mailed@x.example"]);
  await db.query("update ai_email_queue set provider_message_id = 'their-message', sent_at = now() where id = $1", [
    theirs,
  ]);
  const probes = ["only-b-mailed@x.example", "never-mailed@x.example"].flatMap((email, n) => [
    { ...createEvent({ event: "bounce", email }), sg_event_id: `bounce-${n}`, sg_message_id: undefined },
    createEvent({ event: "open", email, bo_msg: n === 0 ? theirs : randomUUID(), sg_event_id: `bo_msg-${n}` }),
    createEvent({
      event: "open",
      email,
      sg_event_id: `message-${n}`,
      sg_message_id: n === 0 ? "their-message.0" : "no-message.0",
    }),
  ]);
  expect((await postEvents(server, own, probes, { path })).status).toBe(200);
  await processEvents(db);
  const seen = await db.as<{ probe: string; status: string; skip_reason: string | null }>(
    "tenantA",
    `select split_part(provider_event_id, '-', 1) as probe, status, skip_reason from webhook_events
     where provider_event_id ~ '^(bounce|bo_msg|message)-' order by provider_event_id`,
  );
  expect(seen).toHaveLength(6);
  const [first] = seen;
  expect(first?.skip_reason).not.toBeNull();
  for (const row of seen) expect(row).toEqual({ ...first, probe: row.probe });
  expect(await db.query("select from email_deliveries where tenant_id = $1", [db.tenantB])).toEqual([]);
});

it("refuses the platform's key there, the tenant's key elsewhere, and a changed byte", async () => {
  const [mail] = await createSentEmails(db, db.tenantA, ["cat@x.example"]);
  const events = [complaint(mail, "cat@x.example")];
  expect((await postEvents(server, platform, events, { path })).status).toBe(401);
  expect((await postEvents(server, own, events)).status).toBe(401);
  const changed = Buffer.from(`${JSON.stringify(events)} \n`);
  expect((await postEvents(server, own, events, { path, sentBody: changed })).status).toBe(401);
  const unknown = `/webhooks/sendgrid/${"0".repeat(64)}`;
  expect((await postEvents(server, own, events, { path: unknown })).status).toBe(401);
});

it("refuses everything if the account has no webhook key", async () => {
  await saveOwn({ api_key: "SG.invented" });
  expect((await postEvents(server, own, [complaint(undefined, "x@x.example")], { path })).status).toBe(401);
});
