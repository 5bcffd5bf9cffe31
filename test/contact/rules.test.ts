// Each rule separately: the verdict on a message that may not be sent, and when it may.
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claim, insertMail, mail } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";
import { claimFrom } from "./stage.ts";

let db: TestDatabase;
let worker: pg.Client;
const NOON = new Date("2026-06-03T18:00Z"); // a Wednesday, in Denver
const marketing = { metadata: { marketing: true } };

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
});

beforeEach(async () => {
  await db.query(
    `truncate ai_email_queue, ai_sms_queue, contact_suppressions, contact_consents, contact_policies, marketing_holds, sender_warmups,
       brainops.contact_counts, brainops.pauses, brainops.rate_limits, graphile_worker._private_jobs cascade`,
  );
  await db.query(`update tenants set settings = '{"postal_address": "1 Main St, Denver"}'`);
  await setNow(db, NOON);
});

afterAll(() => db.close());

const due = { scheduled_for: NOON };

async function outcome(id: string): Promise<[string | undefined, string | null | undefined]> {
  const [answer] = await claim(worker, db.tenantA, [id]);
  return [answer?.outcome, answer?.reason];
}

/** Outcome of a marketing mail to the address, now. */
async function tryMail(recipient = "ann@example.com"): Promise<[string | undefined, string | null | undefined]> {
  return outcome(await insertMail(db, "tenantA", { recipient, ...due, ...marketing }));
}

async function tryText(metadata: object = {}): Promise<[string | undefined, string | null | undefined]> {
  const [row] = await db.as<{ id: string }>(
    "tenantA",
    "insert into ai_sms_queue (recipient, body, metadata, scheduled_for) values ('+13035550100', 'Hi', $1, $2) returning id",
    [metadata, NOON],
  );
  const [answer] = await claimFrom(worker, db.tenantA, "sms", [row?.id ?? ""]);
  return [answer?.outcome, answer?.reason];
}

function recordConsent(channel: string, address: string, state: string, evidence: object = {}): Promise<unknown> {
  const text = "insert into contact_consents (channel, address, state, evidence) values ($1, $2, $3, $4)";
  return db.as("tenantA", text, [channel, address, state, evidence]);
}

function policy(channel: string, columns: Readonly<Record<string, unknown>>): Promise<unknown> {
  const names = Object.keys(columns);
  return db.as(
    "tenantA",
    `insert into contact_policies (channel, ${names.join(", ")}) values ($1, ${names.map((_, n) => `$${n + 2}`).join(", ")})`,
    [channel, ...Object.values(columns)],
  );
}

describe("a person's choice", () => {
  const SPELLINGS = ["(303) 555-0100", "303-555-0100", " +1 303 555 0100", "+1.303.555.0100", "1 303 555 0100\r"];
  const suppress = (channel: string, address: string): Promise<unknown> =>
    db.as("tenantA", "insert into contact_suppressions (channel, address) values ($1, $2)", [channel, address]);

  it.each(SPELLINGS)("about texts counts if the number is written %j", async (spelling) => {
    await recordConsent("sms", "+13035550100", "granted");
    await setNow(db, new Date(NOON.getTime() + 1000));
    await recordConsent("sms", spelling, "denied");
    expect(await tryText()).toEqual(["skip", "consent denied"]);
    await suppress("sms", spelling);
    expect(await tryText({ transactional: true })).toEqual(["skip", "suppressed: manual"]);
    await db.query("update contact_suppressions set address = '+13035550111'");
    expect(await tryText({ transactional: true })).toEqual(["go", null]);
    await db.query("update contact_suppressions set address = $1", [spelling]);
    expect(await tryText({ transactional: true })).toEqual(["skip", "suppressed: manual"]);
  });

  it("about mails counts if the address has white space, as in files", async () => {
    await suppress("email", "\tAnn@Example.com\r");
    await recordConsent("email", "bob@example.com\r\n", "denied");
    expect(await tryMail()).toEqual(["skip", "suppressed: manual"]);
    expect(await tryMail("bob@example.com")).toEqual(["skip", "consent denied"]);
  });

  it("is refused if the number cannot be parsed, with a hint", async () => {
    for (const write of [() => suppress("sms", "call Ann"), () => recordConsent("sms", "555-0100", "denied")]) {
      expect(await refusal(write())).toMatchObject({
        code: "OP017",
        message: expect.stringMatching(/^address: '(call Ann|555-0100)' is not a phone number$/),
        hint: expect.stringContaining("+13035550100"),
      });
    }
    // A short code has no country, and a digest no digits.
    await suppress("sms", "72345");
    await suppress("sms", `sha256:${"0".repeat(64)}`);
  });
});

describe("consent", () => {
  it("is the latest entry: mails may be sent without one, texts need a grant", async () => {
    expect(await tryMail()).toEqual(["go", null]);
    expect(await tryText()).toEqual(["skip", "no consent for sms"]);
    await recordConsent("email", "Ann@Example.com", "denied");
    await recordConsent("sms", "+13035550100", "granted");
    expect(await tryMail("bob@example.com")).toEqual(["go", null]);
    expect(await tryMail()).toEqual(["skip", "consent denied"]);
    expect(await tryText()).toEqual(["go", null]);
    await setNow(db, new Date(NOON.getTime() + 1000));
    await recordConsent("email", "ann@example.com", "granted");
    expect(await tryMail()).toEqual(["go", null]);
  });

  it("must be given, or given and confirmed, if the policy says so", async () => {
    await policy("email", { consent: "double_opt_in", cap: 100 });
    expect(await tryMail()).toEqual(["skip", "no consent for email"]);
    await recordConsent("email", "ann@example.com", "granted");
    expect(await tryMail()).toEqual(["skip", "double opt-in not confirmed"]);
    await setNow(db, new Date(NOON.getTime() + 1000));
    await recordConsent("email", "ann@example.com", "granted", { confirmed_at: "2026-06-03" });
    expect(await tryMail()).toEqual(["go", null]);
    await db.as("tenantA", "update contact_policies set consent = 'opt_in'");
    await recordConsent("email", "bob@example.com", "pending");
    expect(await tryMail("bob@example.com")).toEqual(["skip", "double opt-in not confirmed"]);
  });

  it("and hours and caps do not apply to transactional messages; a suppression does", async () => {
    await db.query("update tenants set settings = '{}'");
    await setNow(db, new Date("2026-06-04T09:00Z"));
    await recordConsent("email", "ann@example.com", "denied");
    await recordConsent("sms", "+13035550100", "denied");
    for (let n = 0; n < 5; n += 1) expect(await outcome(await insertMail(db, "tenantA", due))).toEqual(["go", null]);
    expect(await tryText({ transactional: true })).toEqual(["go", null]);
    await db.as(
      "tenantA",
      "insert into contact_suppressions (channel, address) values ('sms', '+13035550100'), ('email', 'ann@example.com')",
    );
    expect(await outcome(await insertMail(db, "tenantA", due))).toEqual(["skip", "suppressed: manual"]);
    expect(await tryText({ transactional: true })).toEqual(["skip", "suppressed: manual"]);
  });
});

describe("a message that may not be sent", () => {
  it("waits for the morning and reports the time zone", async () => {
    await setNow(db, new Date("2026-06-04T05:00Z")); // 23:00 in Denver
    const id = await insertMail(db, "tenantA", { ...due, ...marketing });
    expect(await outcome(id)).toEqual(["defer", "quiet hours in America/Denver"]);
    const row = await mail(db, id);
    expect(row).toMatchObject({
      status: "pending",
      attempts: 0,
      deferrals: 0,
      last_error: "quiet hours in America/Denver",
    });
    const at = (row["scheduled_for"] as Date).toISOString();
    expect(at).toMatch(/^2026-06-04T14:/); // 8 to 9 in Denver
  });

  it("fails without the postal address that the law requires, with a hint, and is sent once it is set", async () => {
    await db.query("update tenants set settings = '{}'");
    const id = await insertMail(db, "tenantA", { ...due, ...marketing });
    expect(await outcome(id)).toEqual(["fail", expect.stringContaining("set it in tenants.settings")]);
    await db.query(`update tenants set settings = '{"postal_address": "1 Main St"}'`);
    await db.as("tenantA", "update ai_email_queue set status = 'pending' where id = $1", [id]);
    expect(await outcome(id)).toEqual(["go", null]);
  });

  it("is not deferred forever: it expires, by the policy or by its own metadata", async () => {
    await policy("email", { expires_after: "3 days" });
    await db.as("admin", "select brainops.hold_marketing('tenant-a', 'email', 'a test')");
    const id = await insertMail(db, "tenantA", { ...due, ...marketing });
    expect(await outcome(id)).toEqual(["defer", "marketing on hold: a test"]);
    expect(await mail(db, id)).toMatchObject({ first_due_at: NOON });
    await setNow(db, new Date(NOON.getTime() + 73 * 3_600_000));
    expect(await outcome(id)).toEqual(["skip", expect.stringMatching(/^expired: it was due at 2026-06-03/)]);
    const own = { metadata: { marketing: true, expires_at: "2026-06-01" }, ...due };
    expect(await outcome(await insertMail(db, "tenantA", own))).toEqual([
      "skip",
      "expired: metadata.expires_at was 2026-06-01",
    ]);
    // A client that reschedules or retries it restarts its time.
    await db.as("tenantA", "update ai_email_queue set status = 'pending' where id = $1", [id]);
    expect((await outcome(id))[0]).toBe("defer");
  });

  it("is skipped once its enrolment has ended", async () => {
    const gone = { ...due, enrolment_id: "00000000-0000-4000-8000-000000000001" };
    const id = await insertMail(db, "tenantA", gone);
    expect(await mail(db, id)).toMatchObject({ is_marketing: true });
    expect(await outcome(id)).toEqual(["skip", "left the campaign: the enrolment is gone"]);
  });

  it("waits while marketing is on hold, for one tenant and channel", async () => {
    await db.as("admin", "select brainops.hold_marketing('tenant-a', 'email', 'a test')");
    await recordConsent("sms", "+13035550100", "granted");
    const id = await insertMail(db, "tenantA", { ...due, ...marketing });
    expect(await outcome(id)).toEqual(["defer", "marketing on hold: a test"]);
    expect(await tryText()).toEqual(["go", null]);
    const other = await insertMail(db, "tenantB", { ...due, ...marketing });
    await db.query(
      "insert into contact_policies (tenant_id, channel, window_start, window_end) values ($1, 'email', '00:00', '00:00')",
      [db.tenantB],
    );
    expect(await claim(worker, db.tenantB, [other])).toMatchObject([{ outcome: "go" }]);
    expect(await db.as("admin", "select brainops.lift_marketing_hold('tenant-a', 'email') as n")).toEqual([{ n: 1 }]);
    expect(await outcome(id)).toEqual(["go", null]);
  });
});
