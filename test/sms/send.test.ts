// A text from a tenant's insert to Twilio, and the effect of each response of Twilio.
import { randomBytes } from "node:crypto";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { saveCredential } from "../../src/revenue/credentials/store.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { insertText, startSmsWorker, startTwilioSimulator, type TwilioSimulator } from "./support.ts";

const secretKey = randomBytes(32).toString("base64");

let db: TestDatabase;
let simulator: TwilioSimulator;
let worker: Worker;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startTwilioSimulator()]);
  worker = await startSmsWorker(db, simulator, { BRAINOPS_SECRET_KEY: secretKey });
});
afterEach(async () => {
  simulator.reset();
  await db.query("delete from brainops.circuit_breakers");
  await db.query("delete from contact_suppressions");
});
afterAll(async () => {
  await worker?.stop();
  await simulator?.close();
  await db?.close();
});

const becomes = (id: string, status: string): Promise<void> =>
  db.until("select status = $2 from ai_sms_queue where id = $1", [id, status]);
const rowOf = async (id: string): Promise<Record<string, unknown> | undefined> =>
  (await db.as("tenantA", "select * from ai_sms_queue where id = $1", [id]))[0];
const suppress = (address: string) =>
  db.as("tenantA", "insert into contact_suppressions (channel, address, reason) values ('sms', $1, 'manual')", [
    address,
  ]);

describe("a row in ai_sms_queue", () => {
  it("is sent as one text, with our id in its callback, when the tenant's own login inserts it", async () => {
    const id = await insertText(db, "tenantA", {
      body: "Hi {{ name }}",
      metadata: { transactional: true, name: "Ann" },
    });
    await becomes(id, "completed");
    const [message] = simulator.messages;
    expect(message).toMatchObject({
      to: "+13035550100",
      from: simulator.from,
      body: "Hi Ann",
      statusCallback: `https://ops.example/webhooks/twilio/status?row=${id}`,
    });
    expect(await rowOf(id)).toMatchObject({
      attempts: 1,
      last_error: null,
      provider_message_id: message?.sid,
      from_number: simulator.from,
      to_number: "+13035550100",
      text_sent: "Hi Ann",
      account_sid: simulator.accountSid,
      segments: 1,
      sent_at: expect.any(Date),
    });
  });

  it("that is long records the number of its segments", async () => {
    const id = await insertText(db, "tenantA", { body: "ы".repeat(71) });
    await becomes(id, "completed");
    expect(await rowOf(id)).toMatchObject({ segments: 2 });
  });

  it("in a national format is parsed by libphonenumber, checked by the parsed number, and sent", async () => {
    await db.query('update tenants set settings = settings || \'{"country": "DE"}\' where id = $1', [db.tenantA]);
    const id = await insertText(db, "tenantA", { recipient: "0171 1234567" });
    await becomes(id, "completed");
    expect(simulator.messages).toMatchObject([{ to: "+491711234567" }]);
    await suppress("+491711234568");
    const stopped = await insertText(db, "tenantA", { recipient: "0171 1234568" });
    await becomes(stopped, "skipped");
    expect(simulator.messages).toHaveLength(1);
    await db.query("update tenants set settings = settings - 'country' where id = $1", [db.tenantA]);
  });

  it("whose recipient is not a phone number fails, and reports how it was parsed", async () => {
    const id = await insertText(db, "tenantA", { recipient: "303 555 010" });
    await becomes(id, "failed");
    expect((await rowOf(id))?.["last_error"]).toBe(
      "recipient: '303 555 010' is not a phone number of US (settings.country); give a number with its country code, such as +13035550100",
    );
  });

  it("reaches the lead that it names, at the number of the time of sending", async () => {
    const [lead] = await db.as<{ id: string }>(
      "tenantA",
      "insert into revenue_leads (contact_name, phone) values ('Bea', '303 555 0111') returning id",
    );
    const id = await insertText(db, "tenantA", {
      recipient: lead?.id,
      body: "Dear {{ lead.contact_name }}",
      scheduled_for: "2100-01-01Z",
    });
    await db.as("tenantA", "update revenue_leads set phone = '303 555 0112' where id = $1", [lead?.id]);
    await db.as("tenantA", "update ai_sms_queue set scheduled_for = now() where id = $1", [id]);
    await becomes(id, "completed");
    expect(simulator.messages).toMatchObject([{ to: "+13035550112", body: "Dear Bea" }]);
  });

  it("that is queued already is skipped once the number is suppressed", async () => {
    const id = await insertText(db, "tenantA", { scheduled_for: "2100-01-01Z" });
    await suppress("+13035550100");
    await db.as("tenantA", "update ai_sms_queue set scheduled_for = now() where id = $1", [id]);
    await becomes(id, "skipped");
    expect(await rowOf(id)).toMatchObject({ skip_reason: "suppressed: manual", attempts: 0, to_number: null });
    const theirs = await insertText(db, "tenantB");
    await becomes(theirs, "completed");
    expect(simulator.messages).toHaveLength(1);
  });
});

describe("Twilio's response", () => {
  it("21610 skips, and suppresses the number with the error code as evidence", async () => {
    const id = await insertText(db, "tenantA", { recipient: "+15005550004" });
    await becomes(id, "skipped");
    expect(
      await db.as("tenantA", "select address, reason, source from contact_suppressions where channel = 'sms'"),
    ).toEqual([{ address: "+15005550004", reason: "unsubscribed", source: "twilio" }]);
    expect(
      await db.as("tenantA", "select state, evidence from contact_consents where address = '+15005550004'"),
    ).toEqual([{ state: "denied", evidence: { error_code: 21610 } }]);
    expect(await db.as("tenantA", "select event, error_code from sms_deliveries where sms_id = $1", [id])).toEqual([
      { event: "refused", error_code: 21610 },
    ]);
  });

  it.each(["+15005550001", "+15005550009"])("to %s fails, and suppresses the number", async (recipient) => {
    const id = await insertText(db, "tenantA", { recipient });
    await becomes(id, "failed");
    expect((await rowOf(id))?.["last_error"]).toMatch(/^Twilio answered 21\d+: /);
    expect(await db.as("tenantA", "select reason from contact_suppressions where address = $1", [recipient])).toEqual([
      { reason: "bounced" },
    ]);
  });

  it("21408 fails this text only, and three of them within an hour pause the tenant's texts", async () => {
    const ids = [1, 2, 3].map(() => insertText(db, "tenantA", { recipient: "+15005550003" }));
    for (const id of await Promise.all(ids)) await becomes(id, "failed");
    const pauses = await db.query("select tenant_id, reason from brainops.pauses where table_name = 'ai_sms_queue'");
    expect(pauses).toEqual([
      { tenant_id: db.tenantA, reason: expect.stringMatching(/within an hour: Twilio answered 21408/) },
    ]);
    const theirs = await insertText(db, "tenantB");
    await becomes(theirs, "completed");
    await db.as("admin", "select brainops.resume('ai_sms_queue', 'tenant-a')");
    expect(await db.as("tenantA", "select from contact_suppressions where address = '+15005550003'")).toEqual([]);
  });

  it("429 holds the provider account for the time it gives, without using an attempt", async () => {
    simulator.faults.add({ kind: "rate_limited", retryAfterSeconds: 2 });
    const id = await insertText(db, "tenantA");
    await db.until("select deferrals = 1 and scheduled_for > now() from ai_sms_queue where id = $1", [id]);
    await becomes(id, "completed");
    expect(await rowOf(id)).toMatchObject({ attempts: 1, deferrals: 1 });
    expect(simulator.acceptedCount(id)).toBe(1);
  });

  it("20003 pauses all tenants' texts until an admin resumes them", async () => {
    simulator.faults.add({ kind: "unauthorized" });
    const id = await insertText(db, "tenantA");
    await db.until("select last_error like 'paused by%Twilio answered 20003%' from ai_sms_queue where id = $1", [id]);
    await db.as("admin", "select brainops.resume('ai_sms_queue')");
    await becomes(id, "completed");
    expect(simulator.acceptedCount(id)).toBe(1);
  });
});

describe("a tenant's own account", () => {
  const save = (credential: object, tenantId: string): Promise<string> =>
    onServer(db.url, (client) =>
      saveCredential(
        client,
        { BRAINOPS_SECRET_KEY: Buffer.from(secretKey, "base64") },
        { tenantId, provider: "twilio" },
        credential,
      ),
    );

  it("sends that tenant's texts and no others, with callbacks to its own endpoint", async () => {
    const own = simulator.addAccount("+13035550199");
    const token = await save({ account_sid: own.accountSid, auth_token: own.authToken, from: own.from }, db.tenantA);
    const [mine, theirs] = [await insertText(db, "tenantA"), await insertText(db, "tenantB")];
    await Promise.all([becomes(mine, "completed"), becomes(theirs, "completed")]);
    const of = (row: string) => simulator.messages.find((message) => message.row === row);
    expect(of(mine)).toMatchObject({
      accountSid: own.accountSid,
      from: "+13035550199",
      statusCallback: `https://ops.example/webhooks/twilio/status/${token}?row=${mine}`,
    });
    expect(of(theirs)).toMatchObject({ accountSid: simulator.accountSid, from: simulator.from });
  });

  it("with a refused token pauses only that tenant", async () => {
    const own = simulator.addAccount("+13035550199");
    await save({ account_sid: own.accountSid, auth_token: "changed since", from: own.from }, db.tenantA);
    const [mine, theirs] = [await insertText(db, "tenantA"), await insertText(db, "tenantB")];
    await becomes(theirs, "completed");
    await db.until("select last_error like 'paused by%Twilio answered 20003%' from ai_sms_queue where id = $1", [mine]);
    await db.query("delete from provider_credentials");
    await db.as("admin", "select brainops.resume('ai_sms_queue', 'tenant-a')");
    await becomes(mine, "completed");
    expect(simulator.acceptedCount(mine)).toBe(1);
  });
});

describe("a tenant's number in the platform account", () => {
  it("sends the tenant's texts; a person keeps getting them from the same number", async () => {
    await db.as("admin", "insert into sms_numbers (tenant_id, number, created_at) values ($1, '+13035550198', now())", [
      db.tenantB,
    ]);
    const first = await insertText(db, "tenantB", { recipient: "+13035550120" });
    await becomes(first, "completed");
    await db.as(
      "admin",
      "insert into sms_numbers (tenant_id, number, created_at) values ($1, '+13035550197', now() - interval '1 day')",
      [db.tenantB],
    );
    const [again, other] = [
      await insertText(db, "tenantB", { recipient: "+13035550120" }),
      await insertText(db, "tenantB", { recipient: "+13035550121" }),
    ];
    await Promise.all([becomes(again, "completed"), becomes(other, "completed")]);
    const senders = simulator.messages.map(({ to, from }) => [to, from]).toSorted();
    expect(senders).toEqual([
      ["+13035550120", "+13035550198"],
      ["+13035550120", "+13035550198"],
      ["+13035550121", "+13035550197"],
    ]);
  });
});

describe("without TWILIO_ACCOUNT_SID", () => {
  it("texts wait and name the variables", async () => {
    await worker.stop();
    const poor = await startSmsWorker(db, null);
    const id = await insertText(db, "tenantA");
    await db.query("select graphile_worker.add_job('maintenance__sweep')");
    await db.until(
      "select last_error like 'waiting: needs a worker with TWILIO_ACCOUNT_SID%' from ai_sms_queue where id = $1",
      [id],
    );
    await poor.stop();
    worker = await startSmsWorker(db, simulator);
    await becomes(id, "completed");
    expect(simulator.acceptedCount(id)).toBe(1);
  });
});
