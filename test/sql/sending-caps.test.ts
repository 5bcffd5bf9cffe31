// Sending caps: how much a tenant may send through the platform's accounts, with exact times.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { beginAsWorker, CLAIM, claim, type Claim } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";

const HOUR_MS = 3_600_000;
const START = Date.parse("2030-01-01T00:00:00Z");

let db: TestDatabase;
let worker: pg.Client;
beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
});
afterEach(async () => {
  await db.query("delete from brainops.sending_caps");
  await db.query("update brainops.sending_counts set counts = default, last_hour = default");
  await db.query("delete from provider_credentials");
  await db.query("delete from ai_email_queue");
});
afterAll(() => db?.close());

const cap = (tenantId: string | null, perHour: number | null, perDay: number | null): Promise<unknown> =>
  db.as(
    "admin",
    "insert into brainops.sending_caps (tenant_id, channel, per_hour, per_day) values ($1, 'email', $2, $3)",
    [tenantId, perHour, perDay],
  );

async function insertDue(tenantId: string, count: number): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    `insert into ai_email_queue (tenant_id, recipient, subject, body, metadata, scheduled_for)
     select $1, 'ann@example.com', 's', 'b', '{"transactional": true}', brainops.now() from generate_series(1, $2::int)
     returning id`,
    [tenantId, count],
  );
  return rows.map(({ id }) => id);
}

const outcomes = async (client: pg.Client, tenantId: string, ids: readonly string[]): Promise<string[]> =>
  (await claim(client, tenantId, ids)).map(({ outcome }) => outcome).toSorted();

/** How many rows go in each hour, if each is claimed once it is due. */
async function goneByHour(tenantId: string, hours: number): Promise<number[]> {
  const gone: number[] = [];
  for (let hour = 0; hour < hours; hour += 1) {
    await setNow(db, new Date(START + hour * HOUR_MS + HOUR_MS - 1000));
    const due = await db.query<{ id: string }>(
      "select id from ai_email_queue where status = 'pending' and tenant_id = $1 and scheduled_for <= brainops.now()",
      [tenantId],
    );
    const found = await outcomes(
      worker,
      tenantId,
      due.map(({ id }) => id),
    );
    gone.push(found.filter((outcome) => outcome === "go").length);
  }
  return gone;
}

describe("a tenant without an account of its own", () => {
  it("has a cap by default: 10,000 mails an hour and 50,000 a day, 1,000 texts an hour and 5,000 a day", async () => {
    expect(
      await db.query(
        "select c, (brainops_internal.sending_cap($1, c)).* from unnest('{email,sms}'::text[]) as c order by c",
        [db.tenantA],
      ),
    ).toEqual([
      { c: "email", per_hour: 10_000, per_day: 50_000 },
      { c: "sms", per_hour: 1000, per_day: 5000 },
    ]);
  });

  it("sends up to the cap of the hour; the rest waits for later hours, and says for what", async () => {
    await setNow(db, new Date(START));
    await cap(null, 3, null);
    const ids = await insertDue(db.tenantA, 5);
    const answers = await claim(worker, db.tenantA, ids);
    expect(answers.map(({ outcome }) => outcome).toSorted()).toEqual(["defer", "defer", "go", "go", "go"]);
    const waiting = await db.query(
      `select last_error like 'sending cap: 3 an hour and any number in 24 hours%' as says,
         scheduled_for >= timestamptz '2030-01-01 01:00Z' and scheduled_for < timestamptz '2030-01-01 02:00Z' as later
       from ai_email_queue where status = 'pending'`,
    );
    expect(waiting).toEqual([
      { says: true, later: true },
      { says: true, later: true },
    ]);
    // Another tenant has a cap for itself.
    expect(await outcomes(worker, db.tenantB, await insertDue(db.tenantB, 3))).toEqual(["go", "go", "go"]);
  });

  it("sends a backlog hour by hour, within the cap of 24 hours", async () => {
    await setNow(db, new Date(START));
    await cap(db.tenantA, 4, 10);
    await insertDue(db.tenantA, 24);
    const gone = await goneByHour(db.tenantA, 120);
    expect(gone.reduce((sum, n) => sum + n, 0)).toBe(24);
    expect(Math.max(...gone)).toBeLessThanOrEqual(4);
    for (let from = 0; from + 24 <= gone.length; from += 1) {
      expect(gone.slice(from, from + 24).reduce((sum, n) => sum + n, 0)).toBeLessThanOrEqual(10);
    }
  });

  it("has the cap that its own row says, also none", async () => {
    await cap(null, 1, 1);
    await cap(db.tenantA, null, null);
    expect(await outcomes(worker, db.tenantA, await insertDue(db.tenantA, 3))).toEqual(["go", "go", "go"]);
    expect(await outcomes(worker, db.tenantB, await insertDue(db.tenantB, 3))).toEqual(["defer", "defer", "go"]);
  });

  it("sees its cap and counts, and changes neither", async () => {
    await cap(null, 1, 1);
    expect(await db.as("tenantA", "select per_hour from brainops.sending_caps")).toEqual([{ per_hour: 1 }]);
    for (const change of [
      "update brainops.sending_caps set per_hour = null",
      "insert into brainops.sending_caps (tenant_id, channel) values (brainops.current_tenant_id(), 'email')",
      "delete from brainops.sending_counts",
      "update brainops.sending_counts set counts = default",
    ]) {
      expect([change, (await refusal(db.as("tenantA", change))).code]).toEqual([change, "42501"]);
    }
  });

  it.skipIf(!isServer)(
    "has an exact cap for claims at the same moment, which do not wait (needs a server)",
    async () => {
      await cap(db.tenantA, 100, null); // two shards of 50
      const second = await db.connect("worker");
      const ids = await insertDue(db.tenantA, 110);
      await beginAsWorker(worker, db.tenantA);
      const { rows: first } = await worker.query<Claim>(CLAIM, [ids.slice(0, 40), randomUUID()]);
      expect(first.filter(({ outcome }) => outcome === "go")).toHaveLength(40);
      // While the first is open, the other shard goes, and the rest asks again within seconds.
      await second.query("set lock_timeout = '200ms'");
      const found = await claim(second, db.tenantA, ids.slice(40));
      expect(found.filter(({ outcome }) => outcome === "go")).toHaveLength(50);
      await worker.query("rollback");
      const [soon] = await db.query(
        `select count(*)::int as n from ai_email_queue
       where last_error like 'sending cap%' and scheduled_for <= brainops.now() + interval '2 seconds'`,
      );
      expect(soon).toEqual({ n: 20 });
      // The first was rolled back, and so was its count: 50 are left of the cap.
      const rest = await outcomes(second, db.tenantA, [...ids.slice(0, 40), ...(await insertDue(db.tenantA, 30))]);
      expect(rest.filter((outcome) => outcome === "go")).toHaveLength(50);
    },
  );
});

describe("a tenant with an account of its own", () => {
  it("has no cap", async () => {
    await cap(null, 1, 1);
    await db.query(
      "insert into tenant_keys (tenant_id, wrapped_key, secret_key_id) values ($1, '\\x00', '0123456789abcdef')",
      [db.tenantA],
    );
    await db.query("insert into provider_credentials (tenant_id, provider, sealed) values ($1, 'sendgrid', '\\x00')", [
      db.tenantA,
    ]);
    expect(await outcomes(worker, db.tenantA, await insertDue(db.tenantA, 3))).toEqual(["go", "go", "go"]);
    expect(await db.query("select from brainops.sending_counts where last_hour > '-infinity'")).toEqual([]);
  });
});
