// Any order, any number of times, one end state: Twilio does not keep the order of its callbacks, and
// a signed request can be replayed at any time.
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { HttpServer } from "../../src/http/server.ts";
import { createSentTexts } from "../sms/support.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { processEvents, startTestServer } from "./support.ts";
import { environment, inboundOf, postTwilio, sid, statusOf, type TwilioPost } from "./twilioSupport.ts";

let db: TestDatabase;
let server: HttpServer;
/** Status callbacks of two tenants' texts: their order does not matter. */
let callbacks: TwilioPost[];
/** What people wrote: each message counts from its first arrival. */
let messages: TwilioPost[];

beforeAll(async () => {
  db = await createTestDatabase();
  server = await startTestServer(db, environment);
  await createHistory();
  await db.query("create table public.texts_before as table ai_sms_queue");
  await db.query("create table public.threads_before as table sms_threads");
});
afterAll(async () => {
  await server?.close();
  await db?.close();
});

const people = {
  reads: "+13035550101",
  landline: "+13035550102",
  blocks: "+13035550103",
  away: "+13035550104",
  lost: "+13035550105",
  leaves: "+13035550106",
  returns: "+13035550107",
  answers: "+13035550108",
};

async function createHistory(): Promise<void> {
  await db.query(
    "insert into revenue_leads (tenant_id, contact_name, phone) select $1, name, number from jsonb_each_text($2::jsonb) as p (name, number)",
    [db.tenantA, JSON.stringify(people)],
  );
  const { reads, landline, blocks, away, lost, leaves, returns, answers } = people;
  const sids = Array.from({ length: 9 }, sid);
  const a = await createSentTexts(
    db,
    db.tenantA,
    [reads, landline, blocks, away, away, away, lost, leaves].map((to, n) =>
      to === lost ? { to, status: "unconfirmed" } : { to, sid: sids[n] ?? "" },
    ),
  );
  const [b] = await createSentTexts(db, db.tenantB, [{ to: landline, sid: sids[8] ?? "" }]);
  const of = (n: number, to: string, status: string, code?: number) =>
    statusOf(a[n], sids[n] ?? "", status, { To: to, ...(code === undefined ? {} : { ErrorCode: String(code) }) });
  await db.query(
    `insert into sms_threads (tenant_id, number, sender, last_at)
     select tenant_id, to_number, null, max(started_at) from ai_sms_queue group by 1, 2
     union all select t, n, null, now() from unnest($1::uuid[]) as t cross join unnest($2::text[]) as n
     on conflict do nothing`,
    [[db.tenantA], [returns, answers]],
  );
  callbacks = [
    of(0, reads, "sent"),
    of(0, reads, "delivered"),
    of(1, landline, "sent"),
    of(1, landline, "undelivered", 30006),
    of(2, blocks, "undelivered", 30004),
    of(3, away, "undelivered", 30003),
    of(4, away, "undelivered", 30003),
    of(5, away, "failed", 30003),
    of(6, lost, "sent"),
    of(6, lost, "delivered"),
    of(7, leaves, "undelivered", 30007),
    // Another tenant's text to the same landline, which a carrier dropped without a reason.
    statusOf(b, sids[8] ?? "", "undelivered", { To: landline, ErrorCode: "30008" }),
    statusOf(undefined, sids[0] ?? "", "sending", { To: reads }),
    statusOf("00000000-0000-4000-8000-000000000000", sid(), "delivered", { To: reads }),
  ];
  messages = [
    inboundOf(leaves, "start"),
    inboundOf(leaves, "Stop."),
    inboundOf(returns, "UNSUBSCRIBE"),
    inboundOf(returns, "unstop"),
    inboundOf(answers, "Don't stop, I am interested"),
    inboundOf(answers, "help"),
    inboundOf(landline, "STOP"),
  ];
}

async function startOver(): Promise<void> {
  const client = await db.connect("superuser");
  await client.query(`
    set session_replication_role = replica;
    truncate webhook_events, sms_deliveries, sms_inbound, contact_suppressions, contact_consents, lead_events, sms_threads,
      ai_sms_queue, graphile_worker._private_jobs;
    delete from brainops.pauses;
    insert into sms_threads select * from public.threads_before;
  `);
  const { rows } = await client.query<{ names: string }>(
    `select string_agg(quote_ident(attname), ', ' order by attnum) as names from pg_attribute
     where attrelid = 'ai_sms_queue'::regclass and attnum > 0 and not attisdropped and attgenerated = ''`,
  );
  await client.query(`insert into ai_sms_queue (${rows[0]?.names}) select ${rows[0]?.names} from public.texts_before`);
  await client.end();
}

/** The state to compare, without ids and write times. */
async function endState(): Promise<unknown> {
  const [state] = await db.query(`
    select
      (select jsonb_agg(to_jsonb(d) - '{id,occurred_at}'::text[] order by tenant_id, sms_id, provider_message_id, event) from sms_deliveries as d) as deliveries,
      (select jsonb_agg(to_jsonb(r) - 'occurred_at' order by tenant_id, sms_id) from brainops.sms_results as r) as results,
      (select jsonb_agg(to_jsonb(i) - '{id,received_at}'::text[] order by tenant_id, message_sid) from sms_inbound as i) as inbound,
      (select jsonb_agg(jsonb_build_object('of', tenant_id, 'to', address, 'why', reason, 'by', source, 'ends', expires_at is not null) order by tenant_id, address)
       from contact_suppressions) as suppressions,
      (select jsonb_agg(jsonb_build_object('of', tenant_id, 'to', address, 'state', state, 'evidence', evidence) order by tenant_id, address, state, evidence)
       from contact_consents) as consents,
      (select jsonb_agg(jsonb_build_object('lead', lead_id, 'event', event, 'metadata', metadata - 'inbound_id') order by lead_id, event, metadata - 'inbound_id')
       from lead_events) as events,
      (select jsonb_agg(jsonb_build_object('to', recipient, 'status', status, 'sid', provider_message_id, 'error', last_error, 'key', idempotency_key)
         order by recipient, body, id) from ai_sms_queue) as texts,
      (select jsonb_agg(distinct jsonb_build_object('status', status, 'reason', skip_reason, 'error', last_error)) from webhook_events) as ledger
  `);
  return state;
}

async function send(posts: readonly TwilioPost[]): Promise<void> {
  for (const post of posts) expect((await postTwilio(server, post)).ok).toBe(true);
}

describe("the end state", () => {
  it("is what the callbacks and messages report", async () => {
    await startOver();
    await send([...callbacks, ...messages]);
    await processEvents(db);
    const suppressions = await db.query(
      "select slug, address, reason, expires_at is not null as ends from contact_suppressions inner join tenants as t on t.id = tenant_id order by 1, 2",
    );
    expect(suppressions).toEqual([
      // A landline that wrote STOP: the more severe reason stays, and neither is removed.
      { slug: "tenant-a", address: people.landline, reason: "bounced", ends: false },
      { slug: "tenant-a", address: people.blocks, reason: "unsubscribed", ends: false },
      { slug: "tenant-a", address: people.leaves, reason: "unsubscribed", ends: false },
      { slug: "tenant-b", address: people.landline, reason: "unsubscribed", ends: false },
    ]);
    expect(
      await db.query("select status, provider_message_id is not null as sid from ai_sms_queue where recipient = $1", [
        people.lost,
      ]),
    ).toEqual([{ status: "completed", sid: true }]);
    const events = await db.query(
      "select l.contact_name as who, e.event from lead_events as e inner join revenue_leads as l on l.id = e.lead_id order by 1, 2",
    );
    expect(events).toEqual([
      { who: "answers", event: "sms_replied" },
      { who: "away", event: "sms_failed" },
      { who: "away", event: "sms_failed" },
      { who: "away", event: "sms_failed" },
      { who: "blocks", event: "opted_out" },
      { who: "blocks", event: "sms_failed" },
      { who: "landline", event: "opted_out" },
      { who: "landline", event: "sms_failed" },
      { who: "leaves", event: "opted_in" },
      { who: "leaves", event: "opted_out" },
      { who: "leaves", event: "sms_failed" },
      { who: "lost", event: "sms_delivered" },
      { who: "reads", event: "sms_delivered" },
      { who: "returns", event: "opted_in" },
      { who: "returns", event: "opted_out" },
    ]);
    expect(
      await db.query("select recipient, body from ai_sms_queue where idempotency_key like 'twilio:help:%'"),
    ).toMatchObject([{ recipient: people.answers }]);
    expect(await db.query("select status, skip_reason from webhook_events where status <> 'completed'")).toEqual([
      { status: "skipped", skip_reason: "the callback is about no text that went through this account" },
    ]);
  });

  it("is the same when every post arrives several times in any order and is processed in any order", async () => {
    await startOver();
    await send([...callbacks, ...messages]);
    await processEvents(db);
    const expected = await endState();
    await fc.assert(
      fc.asyncProperty(
        fc.shuffledSubarray([...callbacks, ...callbacks, ...callbacks], { minLength: 3 * callbacks.length }),
        fc.shuffledSubarray([...messages, ...messages], { minLength: 2 * messages.length }),
        fc.integer({ min: 1, max: 60 }),
        async (shuffled, again, perRun) => {
          await startOver();
          // Each message first in its order, then again at any place; the recorded event keeps the first time.
          const order = [...messages, ...shuffled, ...again];
          for (let from = 0; from < order.length; from += perRun) {
            await send(order.slice(from, from + perRun));
            await processInAnyOrder();
          }
          await processEvents(db);
          expect(await endState()).toEqual(expected);
        },
      ),
      { numRuns: 8 },
    );
  }, 120_000);

  it("is the same when several workers process the same events at once", async () => {
    await startOver();
    await send([...callbacks, ...messages]);
    await processEvents(db);
    const expected = await endState();
    await startOver();
    await Promise.all([...callbacks, ...callbacks.toReversed()].map((post) => postTwilio(server, post)));
    await send(messages);
    await Promise.all([1, 2, 3, 4].map(() => processInAnyOrder()));
    await processEvents(db);
    expect(await endState()).toEqual(expected);
  });
});

/** One event at a time, as the jobs of single posts do, in random order. */
async function processInAnyOrder(): Promise<void> {
  const rows = await db.query<{ id: string }>(
    "select id from webhook_events where status = 'pending' order by random()",
  );
  for (const { id } of rows)
    await db.as("worker", "select brainops_internal.process_webhook_events(array[$1::uuid])", [id]);
}

describe("a request that is replayed after the ledger has forgotten it", () => {
  // Twilio's signature has no time, so whoever has recorded a request can post it again for ever.
  const forgetLedger = () => db.query("truncate webhook_events, graphile_worker._private_jobs");

  it("does not lift a STOP at a tenant that texts the person only now", async () => {
    await startOver();
    const person = "+13035550190";
    await db.query("delete from sms_threads");
    await db.query("insert into sms_threads (tenant_id, number, sender, last_at) values ($1, $2, null, now())", [
      db.tenantA,
      person,
    ]);
    const started = inboundOf(person, "START");
    await send([started]);
    await processEvents(db);
    await db.query("insert into sms_threads (tenant_id, number, sender, last_at) values ($1, $2, null, now())", [
      db.tenantB,
      person,
    ]);
    await send([inboundOf(person, "STOP")]);
    await processEvents(db);
    const stopped = () =>
      db.query("select tenant_id from contact_suppressions where address = $1 order by tenant_id = $2 desc", [
        person,
        db.tenantA,
      ]);
    expect(await stopped()).toEqual([{ tenant_id: db.tenantA }, { tenant_id: db.tenantB }]);
    const before = await endState();
    await forgetLedger();
    await send([started]);
    await processEvents(db);
    expect(await stopped()).toEqual([{ tenant_id: db.tenantA }, { tenant_id: db.tenantB }]);
    await forgetLedger();
    expect(await endState()).toEqual({ ...(before as object), ledger: null });
  });

  it("does not report on a text that was sent long ago", async () => {
    await startOver();
    const [row] = await createSentTexts(db, db.tenantA, [{ to: "+13035550191", sid: "SM1" }]);
    const post = statusOf(row, "SM1", "undelivered", { To: "+13035550191", ErrorCode: "30004" });
    await db.setClock("32 days");
    try {
      await send([post]);
      await processEvents(db);
    } finally {
      await db.setClock("0");
    }
    expect(await db.query("select status, skip_reason from webhook_events")).toEqual([
      { status: "skipped", skip_reason: "the callback is about a text that was sent more than 31 days ago" },
    ]);
    expect(await db.query("select from contact_suppressions")).toEqual([]);
    expect(await db.query("select from sms_deliveries")).toEqual([]);
  });
});
