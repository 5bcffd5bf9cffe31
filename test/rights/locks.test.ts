// Locks that work waits for are rows that tenants cannot lock. Each test lets tenant B hold what it can: advisory locks,
// whose keys every login can compute or read in pg_locks, and its own rows.
import { globSync, readFileSync } from "node:fs";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { migrate } from "../../src/db/migrate/index.ts";
import { startSendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import { startStripeSimulator } from "../../src/simulator/stripe/index.ts";
import { createEvent, createSentEmails } from "../http/support.ts";
import { checkout, event } from "../payments/support.ts";
import { createSentTexts } from "../sms/support.ts";
import { createTestDatabase, isServer, type Seat, type TestDatabase } from "../support/database.ts";
import { beginAsWorker, insertMail, jobsOf } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";
import { startTestWorker, testConfig } from "../support/worker.ts";

let db: TestDatabase;
let hostile: pg.Client;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  [hostile, worker] = [await db.connect("tenantB"), await db.connect("worker")];
  await worker.query("set lock_timeout = '1s'");
  await db.query("insert into plans (tenant_id, code, name, amount, currency) values (null, 'p', 'P', 10, 'usd')");
  await db.query("insert into lead_forms (tenant_id, name) values ($1, 'contact')", [db.tenantA]);
});
afterEach(async () => {
  await Promise.all([hostile.query("rollback"), worker.query("rollback")]);
  await hostile.query("select pg_advisory_unlock_all()");
});
afterAll(() => db?.close());

const NUMBER = "+13035550177";
const ACCOUNT = `AC${"0".repeat(31)}1`;

/** Runs the statement as the seat, which waits for a lock for a second at most. */
async function runAs(seat: Seat, text: string, values: readonly unknown[] = []): Promise<void> {
  const client = await db.connect(seat);
  try {
    await client.query("set lock_timeout = '1s'");
    await client.query(text, [...values]);
  } finally {
    await client.end();
  }
}

async function asWorkerOfA(text: string, values: readonly unknown[] = []): Promise<void> {
  await beginAsWorker(worker, db.tenantA);
  await worker.query(text, [...values]);
  await worker.query("commit");
}

const applyText = (text: object, tenant: string | null): Promise<unknown> =>
  worker.query("select brainops_internal.apply_twilio_event($1, $2)", [JSON.stringify(text), tenant]);

describe.skipIf(!isServer)("an advisory lock that another tenant holds (needs a server)", () => {
  // $a: tenant A's id. The keys are those under which each piece of work once took a lock.
  it.each<[string, readonly string[], () => Promise<unknown>]>([
    [
      "a payment link is stored",
      ["stripe platform", "stripe $a"],
      async () => {
        const [row] = await db.as<{ id: string }>(
          "tenantA",
          "insert into payment_requests (plan_code) values ('p') returning id",
        );
        await db.query("update payment_requests set key_started_at = now() where id = $1", [row?.id]);
        await runAs(
          "worker",
          "update payment_requests set status = 'completed', stripe_payment_link_id = 'plink_held', payment_url = 'https://x.example' where id = $1",
          [row?.id],
        );
      },
    ],
    [
      "an event of Stripe is applied",
      ["stripe platform", "stripe $a"],
      () =>
        worker.query("select brainops_internal.apply_stripe_event($1, null)", [
          JSON.stringify(event("checkout.session.completed", 1, checkout("held", "plink_held", 1000))),
        ]),
    ],
    [
      "marketing mail passes the frequency cap",
      ["brainops persons of $a", "brainops person $a ann@example.com"],
      () =>
        asWorkerOfA(
          `select brainops_internal.cap_verdicts(brainops.contact_policy($1, 'email'), array[
             row(gen_random_uuid(), '{}', '{ann@example.com}', '{}', '{UTC}', null, null, null, null, now())::brainops.recipient_context])`,
          [db.tenantA],
        ),
    ],
    [
      "leads are imported",
      ["brainops.import_leads:$a"],
      () =>
        runAs("tenantA", "select * from brainops.import_leads($1, $2)", [
          db.tenantA,
          JSON.stringify([{ line: 1, lead: { email: "imported@example.com" }, evidence: {} }]),
        ]),
    ],
    [
      "a form is submitted",
      ["brainops_internal.submit_lead_form:$a:form:contact:1"],
      () =>
        asWorkerOfA("select * from brainops_internal.submit_lead_form($1, 'contact', '1', $2, '{}')", [
          db.tenantA,
          JSON.stringify({ email: "form@example.com" }),
        ]),
    ],
    [
      "an opt-in is asked for by mail",
      ["opt_in:$a:asked@example.com"],
      () =>
        runAs(
          "tenantA",
          `insert into contact_consents (channel, address, state, evidence)
           values ('email', 'asked@example.com', 'pending', '{"double_opt_in": true}')`,
        ),
    ],
    [
      "an opt-in is asked for by text",
      [`opt_in:$a:${NUMBER}`],
      () =>
        runAs(
          "tenantA",
          `insert into contact_consents (channel, address, state, evidence)
           values ('sms', '${NUMBER}', 'pending', '{"double_opt_in": true}')`,
        ),
    ],
    [
      "STOP is applied",
      [`sms $a${NUMBER}`],
      () =>
        applyText({ kind: "inbound", MessageSid: "SM1", From: NUMBER, To: "+15005550006", Body: "STOP" }, db.tenantA),
    ],
    [
      "a filtered text is counted",
      ["brainops sms route $a 30007"],
      () =>
        worker.query("select brainops_internal.apply_sms_error($1, $2, null, 30007, now(), 'filtered')", [
          db.tenantA,
          NUMBER,
        ]),
    ],
    [
      "a number is given to a tenant",
      [`sms_numbers ${NUMBER}`],
      () => runAs("admin", "insert into sms_numbers (tenant_id, number) values ($1, $2)", [db.tenantA, NUMBER]),
    ],
    [
      "unconfirmed texts are reconciled",
      [`reconcile_sms AC1${NUMBER}`],
      () => worker.query("select * from brainops_internal.reconcile_sms('AC1', $1, '[]')", [NUMBER]),
    ],
  ])("holds up nothing: %s", async (_what, keys, work) => {
    for (const key of keys) {
      await hostile.query("select pg_advisory_lock(hashtextextended($1, 0))", [key.replace("$a", db.tenantA)]);
    }
    await expect(work()).resolves.not.toThrow();
  });

  it("does not hold up migrate", async () => {
    await hostile.query("select pg_advisory_lock(7251020241)");
    await expect(migrate({ connectionString: db.url, lockWaitMs: 500 })).resolves.toEqual({ applied: [] });
  });

  it("does not hold up mails of others, while links of its own requests are created", async () => {
    const [sendgrid, stripe] = await Promise.all([startSendgridSimulator(), startStripeSimulator()]);
    const running = await startTestWorker(db, sendgrid, {
      concurrency: 10,
      config: testConfig(sendgrid, { STRIPE_SECRET_KEY: stripe.secretKey, STRIPE_BASE_URL: stripe.url }),
    });
    try {
      await hostile.query("select pg_advisory_lock(hashtextextended('stripe platform', 0))");
      await hostile.query("insert into payment_requests (plan_code) select 'p' from generate_series(1, 60)");
      await db.until("select count(*) > 0 from payment_requests where status <> 'pending' and tenant_id = $1", [
        db.tenantB,
      ]);
      const ids = [await insertMail(db, "tenantA"), await insertMail(db, "tenantA")];
      await db.until("select bool_and(status = 'completed') from ai_email_queue where id = any ($1)", [ids], 8000);
      await db.until(
        "select bool_and(status = 'completed') from payment_requests where tenant_id = $1",
        [db.tenantB],
        20_000,
      );
      // Nor a transaction that keeps its own requests and their links locked.
      await hostile.query("begin");
      await hostile.query("select from payment_requests for update");
      await hostile.query("update payment_requests set payment_status = 'cancelled'");
      const more = await insertMail(db, "tenantA");
      await expect(
        db.until("select status = 'completed' from ai_email_queue where id = $1", [more], 8000),
      ).resolves.toBeUndefined();
    } finally {
      await hostile.query("rollback");
      await hostile.query("select pg_advisory_unlock_all()");
      await running.stop();
      await Promise.all([sendgrid.close(), stripe.close()]);
    }
  }, 60_000);
});

describe("rows that are locks", () => {
  it.each<Seat>(["tenantA", "service", "anonymous"])("cannot be locked by %s", async (seat) => {
    await worker.query("select brainops_internal.lock_keys($1, 'import', '{all}')", [db.tenantA]);
    for (const text of [
      "select from brainops.tenant_locks for no key update",
      "select from brainops.tenant_locks for key share",
      "do $$ begin lock table brainops.tenant_locks in access share mode; end $$",
      "select from brainops.migrations_lock for key share",
      "do $$ begin lock table brainops.migrations_lock in access share mode; end $$",
      "select from brainops.job_tables for key share",
      `select brainops_internal.lock_keys('${db.tenantB}', 'person', '{a}')`,
    ]) {
      expect([text, (await refusal(db.as(seat, text))).code]).toEqual([text, "42501"]);
    }
  });

  it("are at most 64 for a tenant and purpose, however many keys there are", async () => {
    await worker.query(
      "select brainops_internal.lock_keys($1, 'form', array(select 'key ' || n from generate_series(1, 1000) as n))",
      [db.tenantA],
    );
    expect(
      await db.query("select count(*)::int from brainops.tenant_locks where tenant_id = $1 and purpose = 'form'", [
        db.tenantA,
      ]),
    ).toEqual([{ count: 64 }]);
  });

  it.skipIf(!isServer)("are not shared by tenants, even while they are created", async () => {
    const holder = await db.connect("worker");
    await holder.query("begin");
    await holder.query("select brainops_internal.lock_keys($1, 'sms_number', '{a,b,c}')", [db.tenantB]);
    const lock = "select brainops_internal.lock_keys($1, 'sms_number', '{a,b,c}')";
    await worker.query(lock, [db.tenantA]);
    expect((await refusal(worker.query(lock, [db.tenantB]))).code).toBe("55P03");
    await holder.query("rollback");
    await worker.query(lock, [db.tenantB]);
  });

  it.skipIf(!isServer)("make the second wait for the first, and do not deadlock when they are created", async () => {
    const clients = await Promise.all(Array.from({ length: 4 }, () => db.connect("worker")));
    await db.query("create table public.turns (n int not null); insert into turns values (0)");
    await db.query("grant all on turns to brainops_system");
    for (let round = 0; round < 10; round += 1) {
      await db.query("delete from brainops.tenant_locks");
      await Promise.all(
        clients.map(async (client, n) => {
          await client.query("begin");
          const keys = Array.from({ length: 40 }, (_, i) => `${(i * (n + 1)) % 37}`);
          await client.query("select brainops_internal.lock_keys($1, 'person', $2)", [db.tenantA, keys]);
          // Without the lock, two transactions would read the same number.
          const { rows } = await client.query<{ n: number }>("select n from public.turns");
          await client.query("update public.turns set n = $1", [(rows[0]?.n ?? 0) + 1]);
          await client.query("commit");
        }),
      );
    }
    expect(await db.query("select n from turns")).toEqual([{ n: 40 }]);
  });
});

describe.skipIf(!isServer)("a tenant's own rows that it keeps locked (needs a server)", () => {
  it("hold up its own webhook events, and not those of others in the same job", async () => {
    const [mine = ""] = await createSentEmails(db, db.tenantA, ["ann@example.com"]);
    const theirs = await createSentEmails(db, db.tenantB, ["bo@example.com", "cy@example.com"]);
    const events = [
      ...theirs.map((id) => createEvent({ email: "aa@example.com", bo_msg: id, event: "spamreport" })),
      createEvent({ email: "zz@example.com", bo_msg: mine, event: "spamreport" }),
    ];
    await db.as("worker", "select brainops_internal.record_webhook_events('sendgrid', $1::jsonb)", [
      JSON.stringify(events),
    ]);
    // The suppression that the events would write.
    await hostile.query("begin");
    for (const address of ["aa@example.com", "bo@example.com", "cy@example.com"]) {
      await hostile.query("insert into contact_suppressions (address) values ($1)", [address]);
    }
    const process = () =>
      worker.query(
        "select brainops_internal.process_webhook_events(array(select id from webhook_events where status = 'pending'))",
      );
    const outcomes = (): Promise<unknown> =>
      db.query(
        "select status, attempts from webhook_events where payload ->> 'event' = 'spamreport' order by payload ->> 'email'",
      );
    await process();
    const pending = { status: "pending", attempts: 0 };
    expect(await outcomes()).toEqual([pending, pending, { status: "completed", attempts: 1 }]);
    await hostile.query("rollback");
    await process();
    const completed = { status: "completed", attempts: 1 };
    expect(await outcomes()).toEqual([completed, completed, completed]);
  });

  it("do not hold up a STOP to a number that it shares with others", async () => {
    await db.query(
      "insert into sms_threads (tenant_id, number, last_at) select id, '+13035550188', now() from tenants where slug in ('tenant-a', 'tenant-b')",
    );
    await db.as("worker", "select brainops_internal.record_twilio_event($1, null)", [
      JSON.stringify({
        kind: "inbound",
        MessageSid: "SM_shared",
        From: "+13035550188",
        To: "+15005550006",
        Body: "STOP",
        event_id: "shared",
      }),
    ]);
    await hostile.query("begin");
    await hostile.query("insert into contact_suppressions (channel, address) values ('sms', '+13035550188')");
    const process = () =>
      worker.query(
        "select brainops_internal.process_webhook_events(array(select id from webhook_events where status = 'pending'))",
      );
    const stopped = (): Promise<{ slug: string }[]> =>
      db.query(
        "select t.slug from contact_suppressions as s inner join tenants as t on t.id = s.tenant_id where s.address = '+13035550188' order by 1",
      );
    await process();
    expect(await stopped()).toEqual([{ slug: "tenant-a" }]);
    await hostile.query("rollback");
    await process();
    expect(await stopped()).toEqual([{ slug: "tenant-a" }, { slug: "tenant-b" }]);
  });

  it("do not hold up the reconciliation of texts of others", async () => {
    await createSentTexts(db, db.tenantB, [{ to: NUMBER, status: "unconfirmed" }]);
    await createSentTexts(db, db.tenantA, [{ to: "+13035550166", status: "unconfirmed", sid: "SM_a" }]);
    await hostile.query("begin");
    await hostile.query("select from ai_sms_queue where status = 'unconfirmed' for update");
    const reconcile = async (number: string): Promise<number> =>
      (await worker.query("select * from brainops_internal.reconcile_sms($1, $2, '[]')", [ACCOUNT, number])).rows
        .length;
    expect(await reconcile(NUMBER)).toBe(0); // not waited for
    expect(await reconcile("+13035550166")).toBe(1);
  });

  it("do not hold up the sweep", async () => {
    const [id = "", lost = ""] = [await insertMail(db, "tenantB"), await insertMail(db, "tenantA")];
    await db.query("delete from graphile_worker._private_jobs");
    // Queues the job of the row, in a transaction that stays open.
    await hostile.query("begin");
    await hostile.query("update ai_email_queue set status = 'cancelled' where id = $1", [id]);
    await hostile.query("update ai_email_queue set status = 'pending' where id = $1", [id]);
    const { rows } = await worker.query(
      "select requeued from brainops_internal.sweep() where table_name = 'ai_email_queue'",
    );
    expect(rows).toEqual([{ requeued: 1 }]);
    expect((await jobsOf(db, lost)).map(({ key }) => key)).toEqual([`${db.tenantA}:ai_email_queue:${lost}`]);
  });

  it("do not hold up the watch over complaints and bounces", async () => {
    for (const tenant of [db.tenantA, db.tenantB]) {
      await db.query(
        "insert into email_bounces (tenant_id, recipient, bounce_type, reason) select $1, 'b' || n || '@example.com', 'hard', 'gone' from generate_series(1, 20) as n",
        [tenant],
      );
    }
    await hostile.query("begin");
    await hostile.query(
      "insert into tenant_notifications (subject, body, idempotency_key) select 'x', 'x', 'marketing_hold:' || date_trunc('day', now())",
    );
    await worker.query("select brainops_internal.guard_reputation()");
    const held = "select tenant_id from marketing_holds where lifted_at is null";
    expect(await db.query(held)).toEqual([{ tenant_id: db.tenantA }]);
    await hostile.query("rollback");
    await worker.query("select brainops_internal.guard_reputation()");
    expect(await db.query(held)).toHaveLength(2);
  });

  it("do not hold up the nightly scores of others", async () => {
    await db.query("update brainops.installation set public_url = 'https://ops.example'");
    await db.query(
      "insert into brainops.installation (public_url) values ('https://ops.example') on conflict do nothing",
    );
    await db.query(`update tenants set settings = settings || '{"postal_address": "1 Main St"}'`);
    for (const seat of ["tenantA", "tenantB"] as const) {
      await db.as(seat, "insert into revenue_leads (email, phone) values ('scored@example.com', '+13035550144')");
      await db.as(
        seat,
        "insert into campaign_rules (campaign_id, name, tiers) select id, 'all', '{hot,warm,cool,cold}' from campaigns where code = 'welcome'",
      );
      await db.as(seat, "update campaigns set status = 'active' where code = 'welcome'");
    }
    await db.query("update revenue_leads set scored_at = null, rescore_requested_at = now() - interval '1 hour'");
    await db.query("delete from graphile_worker._private_jobs");
    await hostile.query("begin");
    await hostile.query("update campaigns set name = 'Held' where code = 'welcome'");
    await hostile.query("select from campaigns for update");
    await worker.query("select brainops_internal.rescore_stale()");
    const jobs = await db.query<{ ids: string[] }>(
      `select payload::jsonb -> 'ids' as ids from graphile_worker._private_jobs as j
       inner join graphile_worker._private_tasks as t on t.id = j.task_id where t.identifier = 'lead__score'`,
    );
    for (const { ids } of jobs) {
      expect(await db.query("select distinct tenant_id from revenue_leads where id = any ($1)", [ids])).toHaveLength(1);
    }
    expect(jobs.length).toBeGreaterThan(1);
  });

  it("do not hold up the sweep of webhook events, or the look at which of Twilio's lists to fetch", async () => {
    const [mail = ""] = await createSentEmails(db, db.tenantB, ["bo@example.com"], "unconfirmed");
    await db.query(
      "insert into email_deliveries (tenant_id, email_id, recipient, event, occurred_at) values ($1, $2, 'bo@example.com', 'delivered', now())",
      [db.tenantB, mail],
    );
    await hostile.query("begin");
    await hostile.query("select from ai_email_queue where id = $1 for update", [mail]);
    await worker.query("select brainops_internal.sweep_webhook_events()");
    await expect(worker.query("select * from brainops_internal.unconfirmed_sms(10)")).resolves.toBeDefined();
  });

  it("are not another tenant's: naming a lead of A takes no lock on it", async () => {
    const [lead] = await db.as<{ id: string }>(
      "tenantA",
      "insert into revenue_leads (email) values ('locked@example.com') returning id",
    );
    const gate = await db.connect("superuser");
    await gate.query("select pg_advisory_lock(77)");
    // The second row waits, so the statement is open after the first row's trigger.
    const inserting = refusal(
      hostile.query(
        `insert into lead_events (lead_id, event)
         select $1, 'x' from generate_series(1, 2) as n,
           lateral (select case when n = 2 then pg_advisory_xact_lock(77) end) as held`,
        [lead?.id],
      ),
    );
    await db.until(
      "select exists (select from pg_stat_activity where datname = current_database() and wait_event = 'advisory')",
    );
    try {
      await expect(
        db.as("tenantA", "select from revenue_leads where id = $1 for update nowait", [lead?.id]),
      ).resolves.toHaveLength(1);
    } finally {
      await gate.query("select pg_advisory_unlock_all()");
    }
    expect((await inserting).code).toBe("23503");
  });
});

describe("the source", () => {
  it("names an advisory lock nowhere except for the liveness of workers, for which nobody waits", async () => {
    const inDatabase = await db.query<{ name: string }>(
      `select p.oid::regproc::text as name from pg_proc as p
       where p.pronamespace::regnamespace::text in ('public', 'brainops', 'brainops_internal')
         and pg_get_functiondef(p.oid) ~* 'pg_(try_)?advisory_' and p.prokind in ('f', 'p')
         and not exists (select from pg_depend as d where d.objid = p.oid and d.deptype = 'e')`,
    );
    const workers = readFileSync("sql/functions/jobs/workers.sql", "utf8");
    expect(inDatabase.filter(({ name }) => !workers.includes(`create or replace function ${name}(`))).toEqual([]);
    const named = globSync(["src/**/*.ts", "tasks/*.ts"]).filter((path) =>
      /pg_(?:try_)?advisory_/.test(readFileSync(path, "utf8").replaceAll(/^\s*(?:\/\/|\*).*$/gm, "")),
    );
    expect(named.filter((path) => path !== "src/jobs/liveness.ts")).toEqual([]);
  });
});
