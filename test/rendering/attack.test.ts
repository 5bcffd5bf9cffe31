// What a tenant can insert to stop a worker by its templates. The worker runs in this process, so that its event loop is
// this one's.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { startTwilioSimulator, twilioEnvironment, type TwilioSimulator } from "../sms/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { watchEventLoop } from "../support/eventLoop.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";

let db: TestDatabase;
let mails: SendgridSimulator;
let texts: TwilioSimulator;
let worker: Worker;

beforeAll(async () => {
  [db, mails, texts] = await Promise.all([createTestDatabase(), startSendgridSimulator(), startTwilioSimulator()]);
  worker = await startTestWorker(db, mails, { config: testConfig(mails, twilioEnvironment(texts)), concurrency: 50 });
});

afterAll(async () => {
  await worker.stop();
  await Promise.all([mails.close(), texts.close()]);
  await db.close();
});

beforeEach(async () => {
  await db.query("delete from ai_email_queue");
});

const MAX_BLOCK_MS = 1500;
const BODY = "<p>Hi {{ name }}</p>";

async function insertMails(
  seat: "tenantA" | "tenantB",
  count: number,
  subject = "Hello",
  body = BODY,
  x = "",
): Promise<void> {
  await db.as(
    seat,
    `insert into ai_email_queue (recipient, subject, body, metadata)
     select 'p' || i || '@example.com', $1, $2, jsonb_build_object('x', $3::text, 'name', 'Ann')
     from generate_series(1, $4::int) as i`,
    [subject, body, x, count],
  );
}

const sent = (seat: "tenantA" | "tenantB", count: number): Promise<void> =>
  db.until(
    "select count(*) = $2 from ai_email_queue where tenant_id = $1 and status = 'completed'",
    [db[seat], count],
    60_000,
  );

const x = "a".repeat(60_000);
const long = "{% for i in (1..8000) %}{{ x }}{% endfor %}";

const bodies: readonly [string, string, string, string, RegExp][] = [
  ["149,000 tags", "s", "{{ a }}".repeat(149_000), "", /^OP046: body: has 149,000 tags; the limit is 2,000/],
  ["300,000 nested <b>", "s", "<b>".repeat(300_000), "", /^OP046: body: nests HTML elements .* limit is 200/],
  ["130,000 nested lists", "s", "<ul><li>".repeat(130_000), "", /^OP046: body: nests HTML elements .* limit is 200/],
  ["200,000 nested <div>", "s", "<div>".repeat(200_000), "", /^OP046: body: nests HTML elements .* limit is 200/],
  ["40,000 tags in plain text", "s", "{{ a }}x".repeat(40_000), "", /^OP046: body: has 40,000 tags/],
  ["120 MB of HTML", "s", `<p>${"{{ x | raw }}".repeat(2000)}`, x, /^OP046: body: .* limit is 2,000,000/],
  ["a subject of 480 MB", long, "b", x, /^OP046: subject: .* limit is 998/],
  [
    "an endless loop",
    "s",
    "{% for i in (1..9999) %}{% for j in (1..9999) %}{% endfor %}{% endfor %}",
    "",
    /^OP046: body: takes too much/,
  ],
];

describe("a tenant's mail", () => {
  it("with a header that SendGrid would refuse is refused when it is inserted", async () => {
    const insert =
      "insert into ai_email_queue (recipient, subject, body, metadata) values ('b@b.example', 's', 'b', $1)";
    for (const metadata of [
      { reply_to: "a@b.example\r\nBcc: c@d.example" },
      { category: "c\u0007" },
      { category: "c".repeat(256) },
    ]) {
      await expect(db.as("tenantB", insert, [metadata])).rejects.toThrow(/metadata\.(reply_to|category)/);
    }
    // Short enough for the row, too long for the header.
    await db.as("tenantB", insert, [{ reply_to: `${"n".repeat(250)} <a@b.example>` }]);
    await db.until("select bool_or(last_error like 'OP046: metadata.reply_to: % limit is 255%') from ai_email_queue");
    await db.as("tenantB", insert, [{ reply_to: "Ann <ann@b.example>", category: "c".repeat(255) }]);
    await sent("tenantB", 1);
  }, 60_000);

  it.each(bodies)(
    "of %s fails, while other tenants' mails go out",
    async (_name, subject, body, value, message) => {
      const loop = watchEventLoop();
      await insertMails("tenantB", 1, subject, body, value);
      await insertMails("tenantA", 20);
      await sent("tenantA", 20);
      await db.until(
        "select bool_and(status = 'failed') from ai_email_queue where tenant_id = $1",
        [db.tenantB],
        60_000,
      );
      expect(loop.longestMs()).toBeLessThan(MAX_BLOCK_MS);
      const rows = await db.query<{ status: string; last_error: string | null; attempts: number }>(
        "select status, last_error, attempts from ai_email_queue where tenant_id = $1",
        [db.tenantB],
      );
      expect(rows).toHaveLength(1);
      for (const row of rows) {
        expect(row).toMatchObject({ status: "failed", attempts: 1, last_error: expect.stringMatching(message) });
      }
      // Nothing was sent, so nothing speaks against the provider.
      expect(await db.query("select from brainops.circuit_breakers where failures > 0")).toEqual([]);
    },
    120_000,
  );
});

describe("a tenant's text", () => {
  it("of 480 million characters fails, while other tenants' mails go out", async () => {
    const loop = watchEventLoop();
    const [row] = await db.as<{ id: string }>(
      "tenantB",
      "insert into ai_sms_queue (recipient, body, metadata) values ('+13035550177', $1, $2) returning id",
      [long, { transactional: true, type: "appointment", x }],
    );
    await insertMails("tenantA", 20);
    await sent("tenantA", 20);
    await db.until("select status = 'failed' from ai_sms_queue where id = $1", [row?.id], 60_000);
    const [failed] = await db.query<{ last_error: string; attempts: number }>(
      "select last_error, attempts from ai_sms_queue where id = $1",
      [row?.id],
    );
    expect(failed).toEqual({
      attempts: 1,
      last_error: "OP046: body: renders to too many characters; the limit is 1,600; shorten it",
    });
    expect(loop.longestMs()).toBeLessThan(MAX_BLOCK_MS);
  }, 120_000);
});

describe("a tenant whose mails are all slow", () => {
  it("has them put off, and another tenant's mails go out meanwhile", async () => {
    const loop = watchEventLoop();
    // Takes its time in the thread, where no count of tags sees it.
    await insertMails(
      "tenantB",
      150,
      "s",
      `{% if a${" and a".repeat(140_000)} %}{% endif %}{% for i in (1..9999) %}{% for j in (1..9999) %}{% endfor %}{% endfor %}`,
    );
    await db.until(
      "select count(*) > 0 from ai_email_queue where tenant_id = $1 and status = 'failed'",
      [db.tenantB],
      60_000,
    );
    await insertMails("tenantA", 20);
    await sent("tenantA", 20);
    await db.until(
      "select count(*) > 100 from ai_email_queue where tenant_id = $1 and last_error like 'waiting: the tenant''s%' and attempts = 0",
      [db.tenantB],
      60_000,
    );
    expect(loop.longestMs()).toBeLessThan(MAX_BLOCK_MS);
    await db.query("update ai_email_queue set status = 'cancelled' where status = 'pending'");
  }, 120_000);
});
