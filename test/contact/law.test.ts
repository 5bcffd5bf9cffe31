// Legal hours by state, and how many rows the gate reads for its verdicts.
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { insertMail } from "../support/jobs.ts";
import { letMarketingGo } from "../support/marketing.ts";
import { claimFrom } from "./stage.ts";

let db: TestDatabase;
let worker: pg.Client;
const NOON = new Date("2026-06-03T18:00Z"); // a Wednesday, in Denver

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
});

beforeEach(async () => {
  await db.query("truncate ai_email_queue, ai_sms_queue, contact_consents, contact_policies cascade");
  await setNow(db, NOON);
});

afterAll(() => db.close());

describe("legal hours", () => {
  it.each([
    ["a text to Texas on Sunday morning", "+12145550100", "2026-06-07T15:00Z", "defer"],
    ["a text to Texas on Sunday afternoon", "+12145550100", "2026-06-07T17:30Z", "go"],
    ["a text to Florida at half past eight in the evening", "+13055550100", "2026-06-04T00:30Z", "defer"],
    ["a text to New York at that time", "+12125550100", "2026-06-04T00:30Z", "go"],
    ["a text to London in its morning", "+442075550100", "2026-06-04T07:30Z", "go"],
  ])("%s", async (_name, recipient, now, expected) => {
    await setNow(db, new Date(now));
    await db.as("tenantA", "insert into contact_consents (channel, address, state) values ('sms', $1, 'granted')", [
      recipient,
    ]);
    const [row] = await db.as<{ id: string }>(
      "tenantA",
      "insert into ai_sms_queue (recipient, body) values ($1, 'Hi') returning id",
      [recipient],
    );
    await db.query("update ai_sms_queue set scheduled_for = $1", [NOON]);
    expect(await claimFrom(worker, db.tenantA, "sms", [row?.id ?? ""])).toMatchObject([{ outcome: expected }]);
  });

  it("apply even if a tenant sets others: both must be met", async () => {
    await db.as(
      "tenantA",
      "insert into contact_policies (channel, window_start, window_end) values ('sms', '06:00', '23:00')",
    );
    const hours =
      "select opens[1]::text as opens, closes[1]::text as closes from brainops_internal.contact_hours(brainops.contact_policy($1, 'sms'), 'US', $2)";
    expect(await db.query(hours, [db.tenantA, "FL"])).toEqual([{ opens: "08:00:00", closes: "20:00:00" }]);
    // An unknown state: as strict as the strictest.
    expect(await db.query(hours, [db.tenantA, null])).toEqual([{ opens: "09:00:00", closes: "18:00:00" }]);
  });
});

describe("the gate", () => {
  it("reads only the person's rows, however much the tenant has sent and received", async () => {
    await letMarketingGo(db);
    await db.query(
      `insert into ai_email_queue (tenant_id, recipient, subject, body, metadata, status, started_at, finished_at)
       select $1, 'p' || n || '@example.com', 'Hi', 'Hi', '{"marketing": true}', 'completed', brainops.now(), brainops.now() from generate_series(1, 3000) as n`,
      [db.tenantA],
    );
    await db.query(
      "insert into contact_consents (tenant_id, channel, address, state) select $1, 'email', 'p' || n || '@example.com', 'granted' from generate_series(1, 3000) as n",
      [db.tenantA],
    );
    await db.query(
      "insert into contact_suppressions (tenant_id, address) select $1, 's' || n || '@example.com' from generate_series(1, 3000) as n",
      [db.tenantA],
    );
    await db.query("analyze ai_email_queue, contact_consents, contact_suppressions");
    const due = { scheduled_for: NOON, metadata: { marketing: true } };
    const id = await insertMail(db, "tenantA", { recipient: "p7@example.com", ...due });
    await worker.query("begin");
    await worker.query("set local role brainops_worker");
    await worker.query("select set_config('app.tenant_id', $1, true)", [db.tenantA]);
    await worker.query("select * from brainops_internal.gate_email(array[$1::uuid])", [id]);
    const { rows } = await worker.query<{ read: number }>(
      `select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::int as read from pg_stat_xact_user_tables
       where relname in ('ai_email_queue', 'contact_consents', 'contact_suppressions')`,
    );
    await worker.query("rollback");
    expect(rows[0]?.read).toBeLessThan(20);
  });
});
