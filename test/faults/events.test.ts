// Events of a tenant whose rows are locked stay pending, and the other tenants' events are applied.
import { randomUUID } from "node:crypto";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.query("create table events_lock (tenant_id uuid primary key)");
  await db.query("insert into events_lock select id from tenants");
  await db.query(
    `create function events_wait() returns trigger language plpgsql security definer as $$
     begin
       perform from public.events_lock where tenant_id = new.tenant_id for update;
       return new;
     end $$`,
  );
  await db.query(
    "create trigger z9_events_wait before insert on email_deliveries for each row execute function events_wait()",
  );
});

afterAll(() => db?.close());

async function record(seat: "tenantA" | "tenantB", n: number): Promise<string[]> {
  const mails = await db.as<{ id: string; recipient: string }>(
    seat,
    "insert into ai_email_queue (recipient, subject, body) select 'p' || i || '@example.com', 's', 'b' from generate_series(1, $1::int) as i returning id, recipient",
    [n],
  );
  const events = mails.map(({ id, recipient }) => ({
    sg_event_id: randomUUID(),
    event: "delivered",
    email: recipient,
    timestamp: Math.floor(Date.now() / 1000),
    bo_msg: id,
  }));
  await db.as("worker", "select brainops_internal.record_webhook_events('sendgrid', $1)", [JSON.stringify(events)]);
  const rows = await db.query<{ id: string }>("select id from webhook_events where tenant_id = $1", [db[seat]]);
  return rows.map(({ id }) => id);
}

describe.skipIf(!isServer)("webhook events of a tenant whose rows are locked (needs server processes)", () => {
  it("stay pending without an attempt, and the other tenant's events in the same call are applied", async () => {
    const [ofA, ofB] = [await record("tenantA", 5), await record("tenantB", 20)];
    const holder = await db.connect("superuser");
    await holder.query("begin");
    await holder.query("select from events_lock where tenant_id = $1 for update", [db.tenantB]);
    const client = await db.connect("worker");
    await client.query("set statement_timeout = '5s'; set lock_timeout = '2s'");
    const process = "select status, events from brainops_internal.process_webhook_events($1) order by status";
    const all = [...ofA, ...ofB];
    for (let i = 0; i < 4; i += 1) {
      expect((await client.query(process, [all])).rows).toEqual([
        { status: "completed", events: 5 },
        { status: "pending", events: 20 },
      ]);
    }
    expect(await db.query("select distinct attempts from webhook_events where id = any ($1)", [ofB])).toEqual([
      { attempts: 0 },
    ]);
    await holder.query("commit");
    expect((await client.query(process, [all])).rows).toEqual([{ status: "completed", events: 25 }]);
  }, 60_000);
});
