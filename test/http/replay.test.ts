// Any order, any number of times, one end state: SendGrid's webhook repeats events under new ids
// (sendgrid-nodejs #1435) and does not keep their order.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { createEvent, createSentEmails, createSigner, postEvents, processEvents, startTestServer } from "./support.ts";

const signer = createSigner();

let db: TestDatabase;
let server: HttpServer;
/** Events of two tenants' mails to the same people, and of two unconfirmed mails. */
let history: Record<string, unknown>[];

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, { SENDGRID_WEBHOOK_PUBLIC_KEY: signer.publicKey });
  await db.query("create table public.mails_before as table ai_email_queue with no data");
  history = await createHistory();
  await db.query("insert into public.mails_before select * from ai_email_queue");
});

afterAll(async () => {
  await server?.close();
  await db?.close();
});

const hard = {
  type: "bounce",
  status: "5.1.1",
  reason: "550 5.1.1 no such user",
  bounce_classification: "Invalid Address",
};
const blocked = { type: "blocked", reason: "550 blocked", bounce_classification: "Reputation" };

async function createHistory(): Promise<Record<string, unknown>[]> {
  const people = [
    "bounces@x.example",
    "leaves@x.example",
    "returns@x.example",
    "complains@x.example",
    "reads@x.example",
  ];
  const [a1, a2, a3, a4, a5] = await createSentEmails(db, db.tenantA, people);
  const [b1, b2, b3] = await createSentEmails(db, db.tenantB, people.slice(0, 3));
  const [lost, dropped] = await createSentEmails(
    db,
    db.tenantA,
    ["lost@x.example", "dropped@x.example"],
    "unconfirmed",
  );
  const at = 1_700_000_000;
  const of = (mail: string | undefined, email: string | undefined, event: string, second: number, more = {}) =>
    createEvent({ bo_msg: mail, email, event, timestamp: at + second, ...more });
  const [bounces, leaves, returns, complains, reads] = people;
  return [
    of(a1, bounces, "processed", 0),
    of(a1, bounces, "deferred", 1, { attempt: "1" }),
    of(a1, bounces, "deferred", 1, { attempt: "2" }),
    of(a1, bounces, "bounce", 2, hard),
    of(b1, bounces, "bounce", 3, blocked),
    // Unsubscribed from one group and resubscribed; then unsubscribed from all, which resubscribing to
    // a group does not undo.
    of(a2, leaves, "group_unsubscribe", 10, { asm_group_id: 1 }),
    of(a2, leaves, "group_resubscribe", 20, { asm_group_id: 1 }),
    of(a2, leaves, "unsubscribe", 30),
    of(a2, leaves, "group_resubscribe", 40, { asm_group_id: 1 }),
    of(b2, leaves, "dropped", 50, { reason: "Unsubscribed Address" }),
    // Resubscribed at tenant A; at tenant B the last event, within one second, is to unsubscribe.
    of(a3, returns, "group_unsubscribe", 10, { asm_group_id: 1 }),
    of(a3, returns, "group_resubscribe", 20, { asm_group_id: 1 }),
    of(b3, returns, "group_resubscribe", 30, { asm_group_id: 1 }),
    of(b3, returns, "group_unsubscribe", 30, { asm_group_id: 1 }),
    // One address, three reasons.
    of(a4, complains, "unsubscribe", 10),
    of(a4, complains, "spamreport", 11),
    of(a4, complains, "dropped", 12, { reason: "Bounced Address" }),
    of(a5, reads, "open", 10),
    of(a5, reads, "open", 11),
    of(a5, reads, "click", 11, { url: "https://x.example/a", url_offset: { index: 0, type: "html" } }),
    of(a5, reads, "click", 11, { url: "https://x.example/a", url_offset: { index: 1, type: "html" } }),
    of(a5, reads, "click", 11, { url: `https://x.example/?q=${"a-long-way/".repeat(1000)}` }),
    of(lost, "lost@x.example", "processed", 5, { sg_message_id: "lost-message.recvd-1" }),
    of(lost, "lost@x.example", "delivered", 6, { sg_message_id: "lost-message.recvd-1" }),
    of(lost, "lost@x.example", "open", 7, { sg_message_id: "lost-message.recvd-1" }),
    of(dropped, "dropped@x.example", "dropped", 5, {
      reason: "Spam Content",
      sg_message_id: "dropped-message.recvd-1",
    }),
    createEvent({ event: "teleported", bo_msg: a1 }),
    createEvent({ event: "delivered", bo_msg: "00000000-0000-4000-8000-000000000000" }),
  ];
}

async function startOver(): Promise<void> {
  const [columns] = await db.query<{ list: string }>(`
    select string_agg(quote_ident(attname), ', ') as list from pg_attribute
    where attrelid = 'ai_email_queue'::regclass and attnum > 0 and not attisdropped and attgenerated = ''`);
  const client = await db.connect("superuser");
  await client.query(`
    set session_replication_role = replica;
    truncate webhook_events, email_deliveries, email_bounces, contact_suppressions, ai_email_queue, graphile_worker._private_jobs;
    insert into ai_email_queue (${columns?.list}) select ${columns?.list} from public.mails_before;
  `);
  await client.end();
}

/** The state to compare, without ids and write times. */
async function endState(): Promise<unknown> {
  const [state] = await db.query(`
    select
      (select jsonb_agg(to_jsonb(d) - 'id' order by tenant_id, email_id, event, occurred_at, detail) from email_deliveries as d) as deliveries,
      (select jsonb_agg(to_jsonb(b) - 'id' order by tenant_id, email_id, occurred_at) from email_bounces as b) as bounces,
      (select jsonb_agg(to_jsonb(s) - '{id,created_at,person_at}'::text[] order by tenant_id, address) from contact_suppressions as s) as suppressions,
      (select jsonb_agg(jsonb_build_object('id', id, 'status', status, 'sent_at', sent_at, 'message', provider_message_id, 'error', last_error) order by id)
       from ai_email_queue) as mails,
      (select jsonb_agg(distinct jsonb_build_object('status', status, 'reason', skip_reason, 'error', last_error)) from webhook_events) as ledger
  `);
  return state;
}

/** Posts in batches and processes after each. */
async function send(events: readonly unknown[], perBatch: number): Promise<void> {
  for (let from = 0; from < events.length; from += perBatch) {
    const response = await postEvents(server, signer, events.slice(from, from + perBatch));
    expect(response.status).toBe(200);
    await processEvents(db);
  }
}

describe("the end state", () => {
  it("is what the events report", async () => {
    await startOver();
    await send(history, history.length);
    const suppressions = await db.query(
      `select slug, address, reason from contact_suppressions inner join tenants as t on t.id = tenant_id order by 1, 2`,
    );
    expect(suppressions).toEqual([
      { slug: "tenant-a", address: "bounces@x.example", reason: "bounced" },
      { slug: "tenant-a", address: "complains@x.example", reason: "complained" },
      { slug: "tenant-a", address: "leaves@x.example", reason: "unsubscribed" },
      { slug: "tenant-b", address: "leaves@x.example", reason: "unsubscribed" },
      { slug: "tenant-b", address: "returns@x.example", reason: "unsubscribed" },
    ]);
    const lost = await db.query(
      "select recipient, status from ai_email_queue where provider_message_id in ('lost-message', 'dropped-message') order by 1",
    );
    expect(lost).toEqual([
      { recipient: "dropped@x.example", status: "failed" },
      { recipient: "lost@x.example", status: "completed" },
    ]);
    const [deliveries] = await db.query("select count(*)::int as n from email_deliveries");
    expect(deliveries).toEqual({ n: history.length - 2 });
  });

  it("is the same for any order, any repetitions and any batch size", async () => {
    await startOver();
    await send(history, history.length);
    const expected = await endState();
    const numbers = history.map((_, index) => index);
    await fc.assert(
      fc.asyncProperty(
        // Every event three times: twice unchanged, and once under a new id.
        fc.shuffledSubarray([...numbers, ...numbers, ...numbers.map((n) => -1 - n)], { minLength: 3 * numbers.length }),
        fc.integer({ min: 1, max: 40 }),
        async (order, perBatch) => {
          await startOver();
          const events = order.map((n) =>
            n >= 0 ? history[n] : createEvent({ ...history[-1 - n], sg_event_id: `again-${n}` }),
          );
          await send(events, perBatch);
          expect(await endState()).toEqual(expected);
        },
      ),
      { numRuns: 15 },
    );
  }, 120_000);

  it("is the same when several workers process the same events at once", async () => {
    await startOver();
    await send(history, history.length);
    const expected = await endState();
    await startOver();
    const again = history.map((event, n) => ({ ...event, sg_event_id: `twin-${n}` }));
    await Promise.all(
      [history, again, history.toReversed(), again.toReversed()].map((events) => postEvents(server, signer, events)),
    );
    const recorded = await db.query("select count(*)::int as n from webhook_events");
    expect(recorded).toEqual([{ n: 2 * history.length }]);
    await Promise.all([1, 2, 3, 4].map(() => processEvents(db)));
    await processEvents(db);
    expect(await endState()).toEqual(expected);
  });
});

describe("a suppression that a client wrote", () => {
  it("is not removed by a later resubscription at SendGrid", async () => {
    await startOver();
    await db.as(
      "tenantA",
      "insert into contact_suppressions (address, reason) values ('Returns@x.example', 'asked us on the phone')",
    );
    await send(history, 5);
    const [row] = await db.as(
      "tenantA",
      "select reason, source from contact_suppressions where address_key = 'returns@x.example'",
    );
    expect(row).toEqual({ reason: "asked us on the phone", source: "client" });
  });

  it("that would expire becomes permanent when the person unsubscribes", async () => {
    await startOver();
    await db.as(
      "tenantA",
      "insert into contact_suppressions (address, reason, expires_at) values ('leaves@x.example', 'unsubscribed', now() + interval '1 day')",
    );
    await send(history, 5);
    const [row] = await db.as(
      "tenantA",
      "select reason, expires_at from contact_suppressions where address_key = 'leaves@x.example'",
    );
    expect(row).toEqual({ reason: "unsubscribed", expires_at: null });
  });
});
