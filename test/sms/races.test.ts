// Races on real connections: between callbacks, people's replies and reconciliations.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { createSentTexts, newSid } from "./support.ts";

const account = `AC${"0".repeat(31)}1`;

let db: TestDatabase;
let first: pg.Client;
let second: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  [first, second] = [await db.connect("worker"), await db.connect("worker")];
});
afterEach(async () => {
  await first.query("rollback");
  await second.query("rollback");
  await db.query("truncate ai_sms_queue, sms_deliveries, sms_inbound, contact_suppressions");
});
afterAll(() => db?.close());

/** Resolves once the second connection waits for a lock. */
async function secondWaits(): Promise<void> {
  const { rows } = await first.query<{ pid: number }>("select pg_backend_pid() as pid");
  await db.until("select exists (select from pg_stat_activity where $1 = any (pg_blocking_pids(pid)))", [rows[0]?.pid]);
}

const apply = (client: pg.Client, event: object) =>
  client.query("select brainops_internal.apply_twilio_event($1, $2)", [JSON.stringify(event), db.tenantA]);
const reply = (body: string, received_at: string) => ({
  kind: "inbound",
  MessageSid: newSid(),
  From: "+13035550100",
  To: "+15005550006",
  Body: body,
  received_at,
});

describe.skipIf(!isServer)("two at once (needs a server)", () => {
  it.each([
    ["STOP, then START", reply("STOP", "2026-03-01T12:00:00Z"), reply("START", "2026-03-01T12:00:01Z"), 0],
    ["START, then an earlier STOP", reply("START", "2026-03-01T12:00:01Z"), reply("STOP", "2026-03-01T12:00:00Z"), 0],
    ["START, then a later STOP", reply("START", "2026-03-01T12:00:00Z"), reply("STOP", "2026-03-01T12:00:01Z"), 1],
  ])("%s: the second sees the first", async (_name, one, other, suppressions) => {
    await first.query("begin");
    await apply(first, one);
    const waiting = apply(second, other);
    await secondWaits();
    await first.query("commit");
    await waiting;
    expect(await db.query("select address from contact_suppressions")).toHaveLength(suppressions);
  });

  it("two reconciliations assign one message to one row", async () => {
    await createSentTexts(
      db,
      db.tenantA,
      [1, 2].map(() => ({ to: "+13035550100", status: "unconfirmed", body: "Same" })),
    );
    const messages = JSON.stringify([{ sid: newSid(), body: "Same", created_at: new Date().toISOString() }]);
    const reconcile = (client: pg.Client) =>
      client.query<{ verdict: string }>("select verdict from brainops_internal.reconcile_sms($1, '+13035550100', $2)", [
        account,
        messages,
      ]);
    await first.query("begin");
    const one = await reconcile(first);
    expect(one.rows.map(({ verdict }) => verdict)).toEqual(["sent", "too early"]);
    // The second does not wait: it leaves the rows to the next minute.
    expect((await reconcile(second)).rows).toEqual([]);
    await first.query("commit");
    expect((await reconcile(second)).rows).toEqual([{ verdict: "too early" }]);
    expect(await db.query("select status from ai_sms_queue order by 1")).toEqual([
      { status: "completed" },
      { status: "unconfirmed" },
    ]);
  });

  it("a callback that is applied while the row becomes unconfirmed settles it at the next reconciliation", async () => {
    const [id] = await createSentTexts(db, db.tenantA, [{ to: "+13035550100", status: "processing" }]);
    const MessageSid = newSid();
    await first.query("begin");
    await apply(first, { kind: "status", MessageSid, MessageStatus: "sent", To: "+13035550100", row: id });
    await db.query("update ai_sms_queue set status = 'unconfirmed', lease = null, worker_id = null where id = $1", [
      id,
    ]);
    await first.query("commit");
    expect(await db.query("select status from ai_sms_queue")).toEqual([{ status: "unconfirmed" }]);
    expect((await second.query("select * from brainops_internal.unconfirmed_sms(10)")).rows).toEqual([]);
    expect(await db.query("select status, provider_message_id as sid from ai_sms_queue")).toEqual([
      { status: "completed", sid: MessageSid },
    ]);
  });
});
