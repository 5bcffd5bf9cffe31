// brainops.forget: no trace of the person is left, and nothing of other people is erased.
import type pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claim, claimOne, insertMail, settle } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";

const PERSON = "Ann.Lee@Example.com";

let db: TestDatabase;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
  // A publication refuses changes of rows without a replica identity: forget must work with one as well.
  await db.query("create publication copied for all tables");
});

afterAll(() => db.close());

/** Where the address is, in any text, text[] or jsonb column of any table: "table.column". */
async function tracesOf(address: string, tenantId: string): Promise<string[]> {
  const columns = await db.query<{ table: string; column: string; of_tenant: boolean }>(
    `select c.oid::regclass::text as table, quote_ident(a.attname) as column,
       exists (select from pg_attribute as t where t.attrelid = c.oid and t.attname = 'tenant_id') as of_tenant
     from pg_class as c inner join pg_attribute as a on a.attrelid = c.oid
     where c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
       and a.atttypid = any (array['text', 'text[]', 'jsonb', 'json', 'name', 'varchar']::regtype[])
       and c.relnamespace::regnamespace::text in ('public', 'brainops', 'graphile_worker')`,
  );
  const found: string[] = [];
  for (const { table, column, of_tenant: ofTenant } of columns) {
    const rows = await db.query(
      `select from ${table} where position(lower($1) in lower(${column}::text)) > 0
       and ($2::uuid is null or ${ofTenant ? "(tenant_id = $2 or tenant_id is null)" : "true"})`,
      [address, tenantId],
    );
    if (rows.length > 0) found.push(`${table.replace(/_\d{4}_\d\d$/, "")}.${column}`);
  }
  return [...new Set(found)].toSorted();
}

/** Rows about the person in every table that can have some. */
async function live(seat: "tenantA" | "tenantB", tenantId: string): Promise<void> {
  const [lead] = await db.as<{ id: string }>(
    seat,
    "insert into revenue_leads (email, contact_name, metadata) values ($1, 'Ann Lee', jsonb_build_object('also', $1::text)) returning id",
    [PERSON],
  );
  const byAddress = await insertMail(db, seat, { recipient: PERSON.toLowerCase(), metadata: { to: PERSON } });
  await insertMail(db, seat, { recipient: lead?.id, body: `Dear ${PERSON}` });
  const archived = await insertMail(db, seat, { recipient: lead?.id, subject: `For ${PERSON}`, status: "completed" });
  await db.query("update ai_email_queue set finished_at = '2026-01-15Z' where id = $1", [archived]);
  await settle(worker, tenantId, [
    {
      id: byAddress,
      lease: await claimOne(worker, tenantId, byAddress),
      outcome: "fail",
      reason: `550 <${PERSON}> unknown`,
    },
  ]);
  await db
    .query("update ai_email_queue set last_error = $2, status = 'cancelled' where id = $1", [archived, `550 ${PERSON}`])
    .catch(() => {});
  const event = {
    event: "bounce",
    type: "bounce",
    email: PERSON,
    timestamp: 1_767_225_600,
    status: "5.1.1",
    reason: `550 ${PERSON}`,
  };
  await db.query("select brainops_internal.record_webhook_events('sendgrid', $1)", [
    JSON.stringify([
      { ...event, bo_msg: byAddress, sg_event_id: `${tenantId}-1` },
      { ...event, event: "unsubscribe", bo_msg: byAddress, sg_event_id: `${tenantId}-2` },
    ]),
  ]);
  await db.query("select * from brainops_internal.process_webhook_events((select array_agg(id) from webhook_events))");
  await db.query("select brainops_internal.unsubscribe_token($1, $2)", [tenantId, PERSON]);
}

describe("forget", () => {
  it("erases the person of one tenant from every table, and keeps the rest", async () => {
    await live("tenantA", db.tenantA);
    await live("tenantB", db.tenantB);
    await worker.query("select brainops.archive_done()");
    await db.query("select brainops_internal.record_webhook_events('sendgrid', $1)", [
      JSON.stringify([{ event: "open", email: PERSON, timestamp: 1_767_225_600, sg_event_id: "stray" }]),
    ]);
    await db.query(
      "update webhook_events set status = 'skipped', processed_at = now(), skip_reason = 'nobody' where tenant_id is null",
    );
    const innocent = await insertMail(db, "tenantA", { recipient: "bob@example.com" });
    const ofB = (await tracesOf(PERSON, db.tenantB)).filter((trace) => trace !== "webhook_events.payload");
    expect(await tracesOf(PERSON, db.tenantA)).toEqual(
      expect.arrayContaining([
        "ai_email_queue.recipient",
        "ai_email_queue.body",
        "brainops.job_archive.job_row",
        "brainops.job_events.detail",
        "contact_suppressions.address",
        "email_bounces.recipient",
        "email_deliveries.recipient",
        "email_unsubscribe_links.address_key",
        "revenue_leads.email",
        "webhook_events.payload",
      ]),
    );

    const erased = await db.as<{ table_name: string; erased: string }>(
      "tenantA",
      "select * from brainops.forget('tenant-a', $1)",
      [` ${PERSON} `],
    );
    expect(Object.fromEntries(erased.map((row) => [row.table_name, Number(row.erased)]))).toMatchObject({
      "public.revenue_leads": 1,
      "public.ai_email_queue": 2,
      "brainops.job_archive": 1,
      "public.contact_suppressions": 1,
    });
    expect(await tracesOf(PERSON, db.tenantA)).toEqual([]);
    expect(await tracesOf(PERSON, db.tenantB)).toEqual(expect.arrayContaining(ofB));
    expect(await db.query("select from ai_email_queue where id = $1", [innocent])).toHaveLength(1);
  });

  it("leaves a digest that stops any new mail to the person, from this tenant only", async () => {
    const again = await insertMail(db, "tenantA", { recipient: PERSON.toUpperCase() });
    expect(await claim(worker, db.tenantA, [again])).toMatchObject([
      { outcome: "skip", reason: "suppressed: forgotten" },
    ]);
    const [digest] = await db.query("select address from contact_suppressions where reason = 'forgotten'");
    expect(digest?.["address"]).toMatch(/^sha256:[0-9a-f]{64}$/);
    await db.query("delete from contact_suppressions where tenant_id = $1", [db.tenantB]);
    const fromB = await insertMail(db, "tenantB", { recipient: PERSON });
    expect(await claim(worker, db.tenantB, [fromB])).toMatchObject([{ outcome: "go" }]);
  });

  it("is available to a tenant for itself only, and reveals nothing of others", async () => {
    const others = ["tenant-b", db.tenantB, "no-such-tenant"];
    for (const tenant of others) {
      const refused = await refusal(db.as("tenantA", "select * from brainops.forget($1, $2)", [tenant, PERSON]));
      expect(refused).toMatchObject({ code: "42501", message: `tenant: '${tenant}' is not your tenant` });
    }
    expect((await refusal(db.as("service", "select * from brainops.forget('tenant-a', 'x@example.com')"))).code).toBe(
      "42501",
    );
    expect((await refusal(db.as("anonymous", "select * from brainops.forget('tenant-a', 'x@example.com')"))).code).toBe(
      "42501",
    );
  });

  it("is available to admins for every tenant, and is idempotent", async () => {
    for (let i = 0; i < 2; i += 1) await db.as("admin", "select * from brainops.forget('tenant-b', $1)", [PERSON]);
    expect(await tracesOf(PERSON, db.tenantB)).toEqual([]);
    expect((await refusal(db.as("admin", "select * from brainops.forget('no-such-tenant', $1)", [PERSON]))).code).toBe(
      "OP007",
    );
  });
});
