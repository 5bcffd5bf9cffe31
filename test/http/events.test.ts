// From a row through a worker and SendGrid's webhook to what the tenant sees.
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { Worker } from "../../src/jobs/worker.ts";
import type { HttpServer } from "../../src/http/server.ts";
import {
  startSendgridSimulator,
  type SendgridEvent,
  type SendgridSimulator,
} from "../../src/simulator/sendgrid/index.ts";
import { createTestDatabase, type Seat, type TestDatabase } from "../support/database.ts";
import { startTestWorker } from "../support/worker.ts";
import { startTestServer } from "./support.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;
let server: HttpServer;
let worker: Worker;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  server = await startTestServer(db, { SENDGRID_WEBHOOK_PUBLIC_KEY: simulator.publicKey });
  simulator.setWebhook(`${server.url}/webhooks/sendgrid`);
  worker = await startTestWorker(db, simulator);
});

afterEach(() => simulator.reset());

afterAll(async () => {
  await worker?.stop();
  await server?.close();
  await simulator?.close();
  await db?.close();
});

/** Queues one mail each, waits until none is pending or processing; returns the rows' ids. */
async function send(seat: Seat, ...recipients: string[]): Promise<string[]> {
  const rows = await db.as<{ id: string }>(
    seat,
    "insert into ai_email_queue (recipient, subject, body) select r, 'Hello', 'Hi' from unnest($1::text[]) as r returning id",
    [recipients],
  );
  const ids = rows.map(({ id }) => id);
  await db.until("select bool_and(status not in ('pending', 'processing')) from ai_email_queue where id = any ($1)", [
    ids,
  ]);
  return ids;
}

/** Delivers SendGrid's events, and waits until all are processed. */
async function report(): Promise<void> {
  const { failed } = await simulator.flushEvents();
  expect(failed).toBe(0);
  await db.until("select not exists (select from webhook_events where status = 'pending')");
}

async function eventsOf(seat: Seat, recipient: string): Promise<string[]> {
  const rows = await db.as<{ event: string }>(
    seat,
    "select event from email_deliveries where recipient = $1 order by event",
    [recipient],
  );
  return rows.map(({ event }) => event);
}

async function suppressionOf(recipient: string): Promise<string | null> {
  const [row] = await db.as<{ reason: string; source: string }>(
    "tenantA",
    "select reason, source from contact_suppressions where address_key = $1",
    [recipient],
  );
  return row === undefined ? null : `${row.reason} (${row.source})`;
}

async function bounceOf(recipient: string): Promise<string | null> {
  const [row] = await db.as<{ bounce_type: string }>(
    "tenantA",
    "select bounce_type from email_bounces where recipient = $1",
    [recipient],
  );
  return row?.bounce_type ?? null;
}

describe("the events of a mail", () => {
  // recipient, events, bounce, suppression
  it.each([
    ["ann@example.com", ["delivered", "processed"], null, null],
    ["deferred@example.com", ["deferred", "processed"], null, null],
    ["late@example.com", ["deferred", "delivered", "processed"], null, null],
    ["open@example.com", ["delivered", "open", "processed"], null, null],
    ["click@example.com", ["click", "delivered", "open", "processed"], null, null],
    ["machine@example.com", ["delivered", "open", "processed"], null, null],
    ["bounce@example.com", ["bounce", "processed"], "hard", "bounced (sendgrid)"],
    ["full@example.com", ["bounce", "processed"], "hard", "bounced (sendgrid)"],
    ["blocked@example.com", ["bounce", "processed"], "soft", null],
    ["nostatus@example.com", ["bounce", "processed"], "soft", null],
    ["expired@example.com", ["bounce", "deferred", "processed"], "soft", null],
    ["asyncbounce@example.com", ["bounce", "delivered", "processed"], "hard", "bounced (sendgrid)"],
    ["lostbounce@example.com", ["bounce", "delivered", "processed"], "hard", "bounced (sendgrid)"],
    ["drop@example.com", ["dropped"], null, "bounced (sendgrid)"],
    ["dropspam@example.com", ["dropped"], null, "complained (sendgrid)"],
    ["dropunsub@example.com", ["dropped"], null, "unsubscribed (sendgrid)"],
    ["dropcontent@example.com", ["dropped"], null, null],
    ["spam@example.com", ["delivered", "processed", "spamreport"], null, "complained (sendgrid)"],
    ["unsub@example.com", ["delivered", "processed", "unsubscribe"], null, "unsubscribed (sendgrid)"],
    ["groupunsub@example.com", ["delivered", "group_unsubscribe", "processed"], null, "unsubscribed (sendgrid)"],
    ["groupresub@example.com", ["delivered", "group_resubscribe", "processed"], null, null],
  ])("to %s are %j", async (recipient, events, bounce, suppression) => {
    const [id] = await send("tenantA", recipient);
    await report();
    expect(await eventsOf("tenantA", recipient)).toEqual(events);
    expect(await bounceOf(recipient)).toBe(bounce);
    expect(await suppressionOf(recipient)).toBe(suppression);
    const mails = await db.query("select distinct email_id from email_deliveries where recipient = $1", [recipient]);
    expect(mails).toEqual([{ email_id: id }]);
  });

  it("mark an open by a machine", async () => {
    const [row] = await db.as<{ metadata: unknown }>(
      "tenantA",
      "select metadata from email_deliveries where recipient = 'machine@example.com' and event = 'open'",
    );
    expect(row?.metadata).toEqual({ machine_open: true });
  });
});

describe("the next mail", () => {
  it("to an address that bounced, complained or unsubscribed is skipped, regardless of case", async () => {
    await send("tenantA", "bounce-2@example.com", "spam-2@example.com", "unsub-2@example.com");
    await report();
    const before = simulator.stats.messages;
    const ids = await send("tenantA", "BOUNCE-2@Example.com", "Spam-2@example.com", "unsub-2@EXAMPLE.com");
    const rows = await db.as(
      "tenantA",
      "select status, skip_reason from ai_email_queue where id = any ($1) order by skip_reason",
      [ids],
    );
    expect(rows).toEqual([
      { status: "skipped", skip_reason: "suppressed: bounced" },
      { status: "skipped", skip_reason: "suppressed: complained" },
      { status: "skipped", skip_reason: "suppressed: unsubscribed" },
    ]);
    expect(simulator.stats.messages).toBe(before);
  });

  it("of another tenant to the same address is sent", async () => {
    const [id] = await send("tenantB", "bounce-2@example.com");
    expect(simulator.acceptedCount(id ?? "")).toBe(1);
    await report();
    expect(await eventsOf("tenantB", "bounce-2@example.com")).toEqual(["bounce", "processed"]);
  });
});

describe("a bounce without our ids", () => {
  it("to an address with several recent mails of one tenant suppresses it, and is linked to no mail", async () => {
    await send("tenantA", "several@example.com");
    await send("tenantA", "several@example.com");
    await report();
    simulator.webhook.push([bounceWithoutIds("several@example.com")]);
    await report();
    expect(await suppressionOf("several@example.com")).toBe("bounced (sendgrid)");
    const mails = await db.query(
      "select email_id from email_deliveries where recipient = 'several@example.com' and event = 'bounce'",
    );
    expect(mails).toEqual([{ email_id: null }]);
  });

  it("to an address of two tenants, or of none, is skipped with a reason", async () => {
    await send("tenantA", "shared@example.com");
    await send("tenantB", "shared@example.com");
    await report();
    simulator.webhook.push([bounceWithoutIds("shared@example.com"), bounceWithoutIds("nobody@example.com")]);
    await report();
    const rows = await db.query(
      `select distinct payload ->> 'email' as email, status, skip_reason, tenant_id from webhook_events
       where payload ->> 'event' = 'bounce' and payload ->> 'email' in ('shared@example.com', 'nobody@example.com')
       order by 1`,
    );
    const because = {
      status: "skipped",
      skip_reason: "the event is about no message that went through this account",
      tenant_id: null,
    };
    expect(rows).toEqual([
      { email: "nobody@example.com", ...because },
      { email: "shared@example.com", ...because },
    ]);
    expect(await suppressionOf("shared@example.com")).toBeNull();
  });
});

describe("an unconfirmed mail", () => {
  it.each([
    ["is completed by an event with our id", "taken@example.com", "completed", null],
    [
      "that SendGrid dropped is failed, with the reason",
      "drop-2@example.com",
      "failed",
      "SendGrid dropped it: Bounced Address",
    ],
  ])("%s", async (_name, recipient, status, lastError) => {
    simulator.faults.add({ kind: "server_error", moment: "after", recipient, times: 1 });
    const [id] = await send("tenantA", recipient);
    expect(await db.query("select status from ai_email_queue where id = $1", [id])).toEqual([
      { status: "unconfirmed" },
    ]);
    await report();
    const [row] = await db.as(
      "tenantA",
      `select status, last_error, sent_at is not null as sent, finished_at is not null as finished, provider_message_id
       from ai_email_queue where id = $1`,
      [id],
    );
    const { messageId } = simulator.messages.at(-1) ?? {};
    const sent = status === "completed";
    expect(row).toEqual({ status, last_error: lastError, sent, finished: true, provider_message_id: messageId });
    expect(simulator.acceptedCount(id ?? "")).toBe(1);
    const [change] = await db.query(
      "select from_status, to_status from brainops.job_events where row_id = $1 order by id desc limit 1",
      [id],
    );
    expect(change).toEqual({ from_status: "unconfirmed", to_status: status });
  });

  it("whose events were processed before it timed out is settled by the sweep", async () => {
    const [id] = await send("tenantA", "faster@example.com");
    await report();
    // As if the send had timed out on our side after the events were processed.
    const client = await db.connect("superuser");
    await client.query("set session_replication_role = replica");
    await client.query(
      "update ai_email_queue set status = 'unconfirmed', sent_at = null, finished_at = null where id = $1",
      [id],
    );
    await client.end();
    await db.as("worker", "select brainops_internal.sweep_webhook_events()");
    expect(
      await db.query("select status, sent_at = started_at as known from ai_email_queue where id = $1", [id]),
    ).toEqual([{ status: "completed", known: true }]);
  });
});

describe("a batch with malformed events", () => {
  it("is applied except for those, which are skipped with a reason", async () => {
    simulator.setModes({ malformed: true });
    for (let batch = 1; batch <= 6; batch += 1) {
      await send("tenantA", `bounce-batch-${batch}@example.com`);
      await report();
      expect(await suppressionOf(`bounce-batch-${batch}@example.com`)).toBe("bounced (sendgrid)");
    }
    const rows = await db.query<{ skip_reason: string }>(
      "select distinct skip_reason from webhook_events where status = 'skipped' and not payload @> '{\"event\": \"bounce\"}' order by 1",
    );
    expect(rows.map((row) => row.skip_reason)).toEqual([
      'not an event: the field "event" is missing',
      'the fields "email" and "timestamp" are missing or malformed',
      "unknown event '7'",
      "unknown event 'teleported'",
    ]);
  });

  it("keeps an event that cannot be applied as failed, with its error, and retries it on request", async () => {
    await db.query(
      `create function public.stumble() returns trigger language plpgsql as $$ begin raise exception 'stumbled'; end $$;
       create trigger stumble before insert on email_deliveries for each row
         when (new.recipient = 'open-2@example.com' and new.event = 'open') execute function public.stumble();`,
    );
    await send("tenantA", "open-2@example.com");
    await simulator.flushEvents();
    // The job retries by itself within seconds; the test does not wait for it.
    const processPending =
      "select brainops_internal.process_webhook_events(array(select id from webhook_events where status = 'pending'))";
    await db.until("select count(*) = 2 from email_deliveries where recipient = 'open-2@example.com'");
    for (let attempt = 2; attempt <= 3; attempt += 1) await db.as("worker", processPending);
    const failed = "select id, status, attempts, last_error from webhook_events where payload @> $1";
    const event = [{ email: "open-2@example.com", event: "open" }];
    const [row] = await db.as<{ id: string }>("tenantA", failed, event);
    expect(row).toMatchObject({ status: "failed", attempts: 3, last_error: "stumbled" });

    await db.query("drop trigger stumble on email_deliveries");
    await db.as("admin", "update webhook_events set status = 'pending' where id = $1", [row?.id]);
    await db.until("select status = 'completed' from webhook_events where id = $1", [row?.id]);
    expect(await eventsOf("tenantA", "open-2@example.com")).toEqual(["delivered", "open", "processed"]);
  });
});

describe("a tenant", () => {
  it("sees the events and deliveries of its own mails only, and cannot write them", async () => {
    await send("tenantA", "mine@example.com");
    await send("tenantB", "yours@example.com");
    await report();
    for (const [seat, own] of [
      ["tenantA", db.tenantA],
      ["tenantB", db.tenantB],
    ] as const) {
      for (const table of ["webhook_events", "email_deliveries", "email_bounces"]) {
        const rows = await db.as(seat, `select distinct tenant_id from ${table}`);
        expect({ table, rows }).toEqual({ table, rows: [{ tenant_id: own }] });
        const write = db.as(seat, `update ${table} set tenant_id = $1`, [own]);
        await expect(write).rejects.toMatchObject({ code: "42501" });
      }
    }
  });

  it("is not affected by an event that names another tenant's mail, whatever its other fields", async () => {
    const [id] = await send("tenantB", "theirs@example.com");
    await report();
    const before = await everythingOf(db.tenantA);
    const [foreign] = await db.query<{ id: string; provider_message_id: string }>(
      "select id, provider_message_id from ai_email_queue where tenant_id = $1 and provider_message_id is not null limit 1",
      [db.tenantA],
    );
    simulator.webhook.push([
      {
        ...bounceWithoutIds("mine@example.com"),
        bo_msg: id,
        tenant_id: db.tenantA,
        sg_message_id: `${foreign?.provider_message_id}.recvd-1`,
      },
    ]);
    await report();
    expect(await everythingOf(db.tenantA)).toEqual(before);
    const [written] = await db.query(
      "select tenant_id, email_id from email_deliveries where recipient = 'mine@example.com' and event = 'bounce'",
    );
    expect(written).toEqual({ tenant_id: db.tenantB, email_id: id });
  });
});

async function everythingOf(tenantId: string): Promise<unknown> {
  return db.query(
    `select
       (select jsonb_agg(d order by id) from email_deliveries as d where tenant_id = $1) as deliveries,
       (select jsonb_agg(b order by id) from email_bounces as b where tenant_id = $1) as bounces,
       (select jsonb_agg(s order by id) from contact_suppressions as s where tenant_id = $1) as suppressions,
       (select jsonb_agg(q order by id) from ai_email_queue as q where tenant_id = $1) as queue,
       (select jsonb_agg(w order by id) from webhook_events as w where tenant_id = $1) as events`,
    [tenantId],
  );
}

let bounces = 0;

function bounceWithoutIds(email: string): SendgridEvent {
  bounces += 1;
  return {
    email,
    timestamp: 1_700_000_000 + bounces,
    event: "bounce",
    sg_event_id: `bare-${bounces}`,
    type: "bounce",
    status: "5.1.1",
    reason: "550 5.1.1 no such user",
    bounce_classification: "Invalid Address",
  };
}
