// forget concurrently with clients that write to the same person, on two connections.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db.close());

const WRITES = {
  "moves its mail": "update ai_email_queue set scheduled_for = now() + interval '2 days' where lead_id = $1",
  "writes it another mail":
    "insert into ai_email_queue (lead_id, recipient, subject, body) values ($1, 'ann@example.com', 'Hi', 'Ann')",
  "records its reply": "select brainops.record_reply($1, 'email', 'Call me')",
} as const;

describe("a client that has written to a lead (needs server processes)", () => {
  it.skipIf(!isServer).each(Object.entries(WRITES))(
    "and then %s succeeds, and forget, which waited, erases that too",
    async (_, write) => {
      const [lead] = await db.as<{ id: string }>(
        "tenantA",
        "insert into revenue_leads (email, contact_name) values ('ann@example.com', 'Ann') returning id",
      );
      await db.as(
        "tenantA",
        "insert into ai_email_queue (lead_id, recipient, subject, body, scheduled_for) values ($1, 'ann@example.com', 'Hi', 'Ann', now() + interval '1 day')",
        [lead?.id],
      );
      const [client, admin] = [await db.connect("tenantA"), await db.connect("admin")];
      await client.query("begin");
      await client.query("insert into lead_events (lead_id, event) values ($1, 'called')", [lead?.id]);
      const forgotten = admin.query("select * from brainops.forget('tenant-a', 'ann@example.com')");
      await db.until(
        "select count(*) = 1 as waits from pg_stat_activity where wait_event_type = 'Lock' and query like '%brainops.forget%' and datname = current_database()",
      );
      await client.query(write, [lead?.id]);
      await client.query("commit");
      await forgotten;
      const left = "select id from revenue_leads union all select id from ai_email_queue";
      expect(await db.as("tenantA", left)).toEqual([]);
      // For the next test: forgotten people get no mail.
      await db.query("delete from contact_suppressions");
    },
  );
});
