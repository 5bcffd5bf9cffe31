import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { startSendgridSimulator, type SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { insertLead } from "../leads/support.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { asWorker } from "../support/jobs.ts";
import { letMarketingGo } from "../support/marketing.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let simulator: SendgridSimulator;

beforeAll(async () => {
  [db, simulator] = await Promise.all([createTestDatabase(), startSendgridSimulator()]);
  await letMarketingGo(db);
  await db.query("select brainops.announce_public_url('https://ops.example')");
});

afterEach(async () => {
  simulator.reset();
  await db.query("delete from brainops.circuit_breakers");
});

afterAll(async () => {
  await simulator.close();
  await db.close();
});

async function newBroadcast(columns: Record<string, unknown> = {}): Promise<string> {
  const row = { subject: "Hello {{ name }}", body: "<p>Dear {{ name }}</p>", status: "active", ...columns };
  const names = Object.keys(row);
  const [made] = await db.as<{ id: string }>(
    "tenantA",
    `insert into ai_broadcasts (${names.join(", ")}) values (${names.map((_, i) => `$${i + 1}`).join(", ")}) returning id`,
    Object.values(row),
  );
  return made?.id ?? "";
}

const addPeople = (broadcast: string, count: number, domain = "example.com"): Promise<unknown> =>
  db.as(
    "tenantA",
    `insert into ai_email_queue (broadcast_id, recipient, metadata)
     select $1, 'p' || i || '@' || $3, jsonb_build_object('name', 'Person ' || i) from generate_series(1, $2::int) as i`,
    [broadcast, count, domain],
  );

/** Runs a worker until the broadcast has nothing left to send. */
async function send(broadcast: string): Promise<void> {
  const worker = await startTestWorker(db, simulator);
  try {
    await db.until(
      "select count(*) filter (where status in ('pending', 'processing')) = 0 from ai_email_queue where broadcast_id = $1",
      [broadcast],
      60_000,
    );
  } finally {
    await worker.stop();
  }
}

const resultsOf = async (broadcast: string): Promise<unknown> =>
  (
    await db.as(
      "tenantA",
      `select recipients::int, waiting::int, sent::int, skipped::int, failed::int, unconfirmed::int, cancelled::int
       from brainops.broadcast_results where id = $1`,
      [broadcast],
    )
  )[0];

describe("a broadcast", () => {
  it("is sent to 2,500 people in a few calls, each with their own mail, id and unsubscribe link", async () => {
    const broadcast = await newBroadcast({
      body: '<p>Dear {{ name }}, <a href="{{ unsubscribe_url }}">no more</a></p>',
    });
    await addPeople(broadcast, 2500);
    await send(broadcast);
    expect(await resultsOf(broadcast)).toMatchObject({ recipients: 2500, sent: 2500 });
    expect(simulator.stats).toMatchObject({ messages: 2500, rows: 2500 });
    expect(simulator.stats.requests).toBeLessThan(25);
    expect(simulator.duplicates()).toEqual([]);

    const rows = await db.query<{ id: string; recipient: string; token: string; provider_message_id: string }>(
      `select q.id, q.recipient, l.token, q.provider_message_id from ai_email_queue as q
       inner join email_unsubscribe_links as l on l.tenant_id = q.tenant_id and l.address_key = q.recipient
       where q.broadcast_id = $1`,
      [broadcast],
    );
    const byId = new Map(rows.map((row) => [row.id, row]));
    for (const message of simulator.messages) {
      const row = byId.get(message.customArgs["bo_msg"] ?? "");
      const name = `Person ${row?.recipient.match(/\d+/)?.[0]}`;
      const url = `https://ops.example/unsubscribe/${row?.token}`;
      expect(message).toMatchObject({
        to: [{ email: row?.recipient }],
        subject: `Hello ${name}`,
        messageId: row?.provider_message_id,
        headers: { "List-Unsubscribe": `<${url}>`, "List-Unsubscribe-Post": "List-Unsubscribe=One-Click" },
      });
      expect(message.content[1]?.value).toBe(
        `<p>Dear ${name}, <a href="${url}">no more</a></p>\n<p style="color:#666;font-size:12px">Tenant A, 1 Main St, Denver, CO 80202</p>`,
      );
      expect(message.content[0]?.value).toContain(`Dear ${name},`);
    }
    const [left] = await db.query(
      "select count(*)::int as jobs from graphile_worker.jobs where key like '%:ai_email_queue:%'",
    );
    expect(left).toEqual({ jobs: 0 });
  }, 120_000);

  it("applies the rules to each recipient: suppressed ones are skipped, the others are sent", async () => {
    const broadcast = await newBroadcast();
    await db.as("tenantA", "insert into contact_suppressions (channel, address) values ('email', 'p3@rules.example')");
    await addPeople(broadcast, 20, "rules.example");
    await send(broadcast);
    expect(await resultsOf(broadcast)).toMatchObject({ sent: 19, skipped: 1 });
  });

  it("is not stopped by one recipient: a template that fails, a value too large, an address that SendGrid refuses", async () => {
    const broadcast = await newBroadcast({
      subject: "Hi",
      body: "<p>{% for i in (1..times) %}{{ i }}{% endfor %} {{ essay }}</p>",
    });
    await addPeople(broadcast, 20, "one.example");
    await db.query("update ai_email_queue set metadata = $2 where recipient = 'p1@one.example' and broadcast_id = $1", [
      broadcast,
      { times: 1e9 },
    ]);
    await db.query(
      "update ai_email_queue set metadata = $2 where broadcast_id = $1 and recipient <> 'p1@one.example'",
      [broadcast, { times: 2 }],
    );
    await db.query("update ai_email_queue set metadata = $2 where broadcast_id = $1 and recipient = 'p2@one.example'", [
      broadcast,
      { times: 2, essay: "long ".repeat(4000) },
    ]);
    simulator.faults.add({
      kind: "bad_request",
      message: "Does not contain a valid address.",
      field: "personalizations.4.to.0.email",
    });
    await send(broadcast);
    expect(await resultsOf(broadcast)).toMatchObject({ recipients: 20, sent: 18, failed: 2 });
    const failed = await db.query<{ last_error: string }>(
      "select last_error from ai_email_queue where broadcast_id = $1 and status = 'failed' order by last_error",
      [broadcast],
    );
    expect(failed.map((row) => row.last_error)).toEqual([
      expect.stringMatching(/^OP046: body: takes too much memory for filters and ranges; the limit is 4,000,000/),
      expect.stringContaining("SendGrid answered 400: personalizations.4.to.0.email"),
    ]);
    expect(simulator.duplicates()).toEqual([]);
  });

  it("whose response is lost leaves all its rows unconfirmed, until their events confirm them", async () => {
    const broadcast = await newBroadcast();
    await addPeople(broadcast, 100, "lost.example");
    simulator.faults.add({ kind: "reset", moment: "after" });
    await send(broadcast);
    expect(await resultsOf(broadcast)).toMatchObject({ unconfirmed: 100, sent: 0 });
    const [breaker] = await db.query("select failures from brainops.breakers");
    expect(breaker).toEqual({ failures: 1 });

    const events = simulator.messages.map((message, index) => ({
      email: message.to[0]?.email,
      bo_msg: message.customArgs["bo_msg"],
      event: "processed",
      timestamp: Math.floor(Date.now() / 1000),
      sg_event_id: `lost-${index}`,
    }));
    await db.as("worker", "select brainops_internal.record_webhook_events('sendgrid', $1)", [JSON.stringify(events)]);
    await db.as(
      "worker",
      "select brainops_internal.process_webhook_events(array(select id from webhook_events where status = 'pending'))",
    );
    expect(await resultsOf(broadcast)).toMatchObject({ unconfirmed: 0, sent: 100 });
  });

  it("that is rate limited uses no attempt, and is sent later", async () => {
    const broadcast = await newBroadcast();
    await addPeople(broadcast, 30, "later.example");
    simulator.faults.add({ kind: "rate_limited", resetSeconds: 1 });
    await send(broadcast);
    const rows = await db.query(
      "select distinct status, attempts, deferrals from ai_email_queue where broadcast_id = $1",
      [broadcast],
    );
    expect(rows).toEqual([{ status: "completed", attempts: 1, deferrals: 1 }]);
  });
});

describe("the life of a broadcast", () => {
  const statuses = async (broadcast: string): Promise<unknown> =>
    (await db.query("select distinct status from ai_email_queue where broadcast_id = $1 order by 1", [broadcast])).map(
      (row) => row["status"],
    );
  const set = (broadcast: string, status: string): Promise<unknown> =>
    db.as("tenantA", "update ai_broadcasts set status = $2 where id = $1", [broadcast, status]);

  it("recipients wait in a draft and a pause, are due when it is active, and are cancelled with it", async () => {
    const broadcast = await newBroadcast({ status: "draft" });
    await addPeople(broadcast, 5, "life.example");
    expect(await statuses(broadcast)).toEqual(["awaiting_approval"]);
    await set(broadcast, "active");
    expect(await statuses(broadcast)).toEqual(["pending"]);
    await set(broadcast, "paused");
    await addPeople(broadcast, 2, "late.example");
    expect(await statuses(broadcast)).toEqual(["awaiting_approval"]);
    await set(broadcast, "cancelled");
    expect(await statuses(broadcast)).toEqual(["cancelled"]);
    await expect(addPeople(broadcast, 1, "never.example")).rejects.toMatchObject({ code: "OP038" });
    await expect(set(broadcast, "active")).rejects.toMatchObject({ code: "OP038" });
  });

  it("its content is fixed by the launch, and a launch is refused if settings are missing", async () => {
    const broadcast = await newBroadcast();
    await expect(
      db.as("tenantA", "update ai_broadcasts set body = 'other' where id = $1", [broadcast]),
    ).rejects.toMatchObject({ code: "OP038" });
    await db.query("update tenants set settings = settings - 'postal_address' where id = $1", [db.tenantA]);
    await expect(newBroadcast()).rejects.toMatchObject({ code: "OP031" });
    await db.query(`update tenants set settings = settings || '{"postal_address": "x"}' where id = $1`, [db.tenantA]);
  });

  it("a row has its own content or its broadcast's, and never another tenant's broadcast", async () => {
    const broadcast = await newBroadcast({ status: "draft" });
    const insert = (columns: string, values: string): Promise<unknown> =>
      db.as("tenantA", `insert into ai_email_queue (recipient, ${columns}) values ('a@example.com', ${values})`);
    await expect(insert("broadcast_id, subject, body", `'${broadcast}', 's', 'b'`)).rejects.toMatchObject({
      code: "OP005",
    });
    await expect(insert("metadata", "'{}'")).rejects.toMatchObject({ code: "OP005" });
    await expect(
      db.as("tenantB", "insert into ai_email_queue (recipient, broadcast_id) values ('a@example.com', $1)", [
        broadcast,
      ]),
    ).rejects.toMatchObject({ code: "23503" });
    expect(await db.as("tenantB", "select from ai_broadcasts where id = $1", [broadcast])).toEqual([]);
    const lock = "select brainops_internal.lock_broadcast($1, $2) as status";
    const client = await db.connect("worker");
    const lockedBy = (tenantId: string) =>
      asWorker(client, tenantId, async () => (await client.query(lock, [db.tenantA, broadcast])).rows);
    expect(await lockedBy(db.tenantA)).toEqual([{ status: "draft" }]);
    await expect(db.as("tenantB", lock, [db.tenantA, broadcast])).rejects.toMatchObject({ code: "42501" });
  });

  it("adds a segment of leads page by page, each once, however often it is called", async () => {
    await db.as(
      "tenantA",
      "insert into revenue_leads (contact_name, email, source) select 'L' || i, 'l' || i || '@segment.example', 'segment' from generate_series(1, 25) as i",
    );
    const broadcast = await newBroadcast({ status: "draft" });
    const fill = async (): Promise<number> => {
      let added = 0;
      for (let after: string | null = null, more = true; more;) {
        const [page]: { added: number; last_id: string | null }[] = await db.as(
          "tenantA",
          "select * from brainops.broadcast_to_leads($1, $$l.source = 'segment'$$, $2, 10)",
          [broadcast, after],
        );
        added += page?.added ?? 0;
        after = page?.last_id ?? null;
        more = after !== null;
      }
      return added;
    };
    expect([await fill(), await fill()]).toEqual([25, 0]);
    await expect(db.as("tenantB", "select * from brainops.broadcast_to_leads($1)", [broadcast])).rejects.toMatchObject({
      code: "OP009",
    });
  });
});

describe("two leads that turn out to be one person", () => {
  let pairs = 0;
  const newPair = async (): Promise<[a: string, b: string]> => {
    pairs += 1;
    const lead = (name: string) => insertLead(db, { email: `${name}${pairs}@pair.example`, source: `pair ${pairs}` });
    return [await lead("a"), await lead("b")];
  };
  const merge = (into: string, from: string): Promise<unknown> =>
    db.as("tenantA", "select brainops.merge_leads($1, $2)", [into, from]);
  const addLeads = "select added from brainops.broadcast_to_leads($1, format('l.source = %L', $2::text))";
  const add = async (broadcast: string): Promise<unknown> =>
    (await db.as("tenantA", addLeads, [broadcast, `pair ${pairs}`]))[0]?.["added"];
  const recipients = (
    broadcast: string,
  ): Promise<{ recipient: string; status: string; skip_reason: string | null }[]> =>
    db.query(
      "select recipient, status, skip_reason from ai_email_queue where broadcast_id = $1 order by created_at, skip_reason nulls first",
      [broadcast],
    );
  const skip_reason = "another lead of the same person is a recipient of this broadcast";

  it("get it once if they are merged before it is sent", async () => {
    const [a, b] = await newPair();
    const broadcast = await newBroadcast({ status: "draft", body: "Hello" });
    expect(await add(broadcast)).toBe(2);
    await merge(a, b);
    expect(await recipients(broadcast)).toEqual([
      { recipient: a, status: "awaiting_approval", skip_reason: null },
      { recipient: b, status: "skipped", skip_reason },
    ]);
    await db.as("tenantA", "update ai_broadcasts set status = 'active' where id = $1", [broadcast]);
    await send(broadcast);
    expect(simulator.messages.map(({ to }) => to)).toEqual([[{ email: `a${pairs}@pair.example` }]]);
  });

  it("get it once if it was sent to one before, and its leads are added again", async () => {
    const [a, b] = await newPair();
    const broadcast = await newBroadcast({ body: "Hello" });
    await db.as("tenantA", "insert into ai_email_queue (broadcast_id, recipient) values ($1, $2)", [broadcast, b]);
    await send(broadcast);
    await merge(a, b);
    expect(await add(broadcast)).toBe(0);
    expect(await recipients(broadcast)).toEqual([{ recipient: b, status: "completed", skip_reason: null }]);
  });

  it.each([
    ["pending", "completed", ["skipped", "completed"]],
    ["pending", "unconfirmed", ["skipped", "unconfirmed"]],
    ["awaiting_approval", "processing", ["skipped", "processing"]],
    ["completed", "completed", ["completed", "completed"]],
    // It was cancelled: a merge does not restart it.
    ["pending", "cancelled", ["skipped", "cancelled"]],
    // It was not sent, and must not be retried together with the other.
    ["failed", "pending", ["skipped", "pending"]],
    ["failed", "failed", ["failed", "skipped"]],
    // The rules skipped this one; they are applied to the other when it is due.
    ["skipped", "pending", ["skipped", "pending"]],
    ["pending", "pending", ["pending", "skipped"]],
  ])(
    "whose rows are %s (the older) and %s keep the one that was sent, else the older",
    async (older, younger, left) => {
      for (const survivor of [0, 1]) {
        const pair = await newPair();
        const broadcast = await newBroadcast();
        await db.query(
          `insert into ai_email_queue (tenant_id, broadcast_id, recipient, created_at)
         select $1, $2, recipient, now() + interval '1 minute' * place from unnest($3::text[]) with ordinality as p (recipient, place)`,
          [db.tenantA, broadcast, pair],
        );
        const client = await db.connect("superuser");
        await client.query("set session_replication_role = replica");
        await client.query(
          `update ai_email_queue as q set status = s.status,
           finished_at = case when s.status in ('completed', 'failed', 'cancelled', 'skipped') then now() end,
           skip_reason = case when s.status = 'skipped' then 'suppressed' end,
           lease = case when s.status = 'processing' then gen_random_uuid() end
         from unnest($2::text[], $3::text[]) as s (recipient, status)
         where q.broadcast_id = $1 and q.recipient = s.recipient`,
          [broadcast, pair, [older, younger]],
        );
        await client.end();
        await merge(pair[survivor] ?? "", pair[1 - survivor] ?? "");
        expect((await recipients(broadcast)).map(({ status }) => status)).toEqual(left);
      }
    },
  );

  it("of whom only one is a recipient, at two addresses, get it at both", async () => {
    const [a, b] = await newPair();
    const broadcast = await newBroadcast();
    await db.as(
      "tenantA",
      `insert into ai_email_queue (broadcast_id, recipient, metadata)
       select $1, x, jsonb_build_object('lead_id', $2::text) from unnest('{home@pair.example,work@pair.example}'::text[]) as x`,
      [broadcast, b],
    );
    await merge(a, b);
    expect((await recipients(broadcast)).map(({ status }) => status)).toEqual(["pending", "pending"]);
  });

  it.skipIf(!isServer)("are added once during their merge (needs server processes)", async () => {
    const [a, b] = await newPair();
    const broadcast = await newBroadcast();
    await db.as("tenantA", "insert into ai_email_queue (broadcast_id, recipient) values ($1, $2)", [broadcast, b]);
    const merging = await db.connect("tenantA");
    await merging.query("begin");
    await merging.query("select brainops.merge_leads($1, $2)", [a, b]);
    const adding = add(broadcast);
    await db.until(
      "select count(*) = 1 from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()",
    );
    await merging.query("commit");
    expect(await adding).toBe(0);
    expect(await recipients(broadcast)).toHaveLength(1);
  });
});
