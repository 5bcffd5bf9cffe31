// Scheduled maintenance: the sweep, the archive, the partitions by month.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claimOne, insertMail, jobsOf, mail } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
});

afterEach(async () => {
  await setNow(db, null);
  await db.query("delete from ai_email_queue");
});

afterAll(() => db.close());

const sweep = async (): Promise<unknown> =>
  (await worker.query("select requeued, timed_out from brainops_internal.sweep() where table_name = 'ai_email_queue'"))
    .rows;

describe("the sweep", () => {
  it("queues a job for due rows that lost theirs, and leaves the rest", async () => {
    const lost = await insertMail(db, "tenantA");
    const later = await insertMail(db, "tenantA", { scheduled_for: "2100-01-01Z" });
    const dead = await insertMail(db, "tenantB");
    const fine = await insertMail(db, "tenantB");
    await db.query("delete from graphile_worker._private_jobs where key like '%' || $1 or key like '%' || $2", [
      lost,
      later,
    ]);
    await db.query("update graphile_worker._private_jobs set attempts = max_attempts where key like '%' || $1", [dead]);
    expect(await sweep()).toEqual([{ requeued: 2, timed_out: 0 }]);
    expect(await jobsOf(db, lost)).toMatchObject([{ attempts: 0, payload: { id: lost, tenant_id: db.tenantA } }]);
    expect(await jobsOf(db, dead)).toMatchObject([{ attempts: 0 }]);
    expect(await jobsOf(db, later)).toEqual([]);
    expect(await jobsOf(db, fine)).toHaveLength(1);
    expect(await sweep()).toEqual([{ requeued: 0, timed_out: 0 }]);
  });

  it("ends rows that their worker never settled", async () => {
    const id = await insertMail(db, "tenantA");
    await claimOne(worker, db.tenantA, id);
    expect(await sweep()).toEqual([{ requeued: 0, timed_out: 0 }]);
    await db.setClock("11 minutes");
    expect(await sweep()).toEqual([{ requeued: 0, timed_out: 0 }]);
    await db.setClock("13 minutes");
    expect(await sweep()).toEqual([{ requeued: 0, timed_out: 1 }]);
    expect(await mail(db, id)).toMatchObject({
      status: "unconfirmed",
      last_error: expect.stringContaining("did not settle"),
    });
  });

  it("frees jobs that are locked by an unknown pool", async () => {
    const [a, b] = [await insertMail(db, "tenantA"), await insertMail(db, "tenantA")];
    await worker.query(
      "insert into brainops.worker_processes (id, host, pid, pool_ids) values (gen_random_uuid(), 'h', 1, '{pool-1}')",
    );
    const lock =
      "update graphile_worker._private_jobs set locked_by = $2, locked_at = now() - interval '1 minute', is_available = default where key like '%' || $1";
    await db.query(lock, [a, "pool-1"]);
    await db.query(lock, [b, "pool-2"]);
    await sweep();
    const locks = await db.query(
      "select locked_by from graphile_worker._private_jobs where key like '%' || $1 or key like '%' || $2 order by locked_by",
      [a, b],
    );
    expect(locks).toEqual([{ locked_by: "pool-1" }, { locked_by: null }]);
    await worker.query("delete from brainops.worker_processes");
  });

  it("records on due rows what they wait for, while no live worker has their task", async () => {
    const [due, later] = [
      await insertMail(db, "tenantA"),
      await insertMail(db, "tenantA", { scheduled_for: "2100-01-01Z" }),
    ];
    const note = async (): Promise<unknown> =>
      (
        await worker.query(
          "select brainops_internal.set_waiting_reason('email__send', 'SENDGRID_API_KEY is not set') as rows",
        )
      ).rows;
    expect(await note()).toEqual([{ rows: 1 }]);
    expect(await note()).toEqual([{ rows: 0 }]);
    expect(await mail(db, due)).toMatchObject({ status: "pending", last_error: "SENDGRID_API_KEY is not set" });
    expect(await mail(db, later)).toMatchObject({ last_error: null });
    await insertMail(db, "tenantA");
    const alive = await db.connect("worker");
    await alive.query("select brainops_internal.register_worker(gen_random_uuid(), 'h', 1, '{email__send}')");
    expect(await note()).toEqual([{ rows: 0 }]);
    await alive.query("select brainops_internal.deregister_worker(id) from brainops.worker_processes");
  });
});

describe("the archive", () => {
  /** The tables that it moved rows from. */
  const archive = async (): Promise<unknown> =>
    (await worker.query("select * from brainops.archive_done(2) where archived > 0 or table_name = 'ai_email_queue'"))
      .rows;
  const doneAt = (id: string, at: string): Promise<unknown> =>
    db.query("update ai_email_queue set finished_at = $2 where id = $1", [id, at]);

  it("moves old finished rows, by month, and shows a tenant its own", async () => {
    const ids = [
      await insertMail(db, "tenantA", { status: "completed", subject: "from A" }),
      await insertMail(db, "tenantA", { status: "failed" }),
      await insertMail(db, "tenantB", { status: "cancelled" }),
    ];
    for (const id of ids) await doneAt(id, "2025-03-31T23:59:59Z");
    await doneAt(ids[1] ?? "", "2025-04-01T00:00:00Z");
    const recent = await insertMail(db, "tenantA", { status: "completed" });
    const pending = await insertMail(db, "tenantA");

    expect(await archive()).toEqual([{ table_name: "ai_email_queue", archived: 2 }]);
    expect(await archive()).toEqual([{ table_name: "ai_email_queue", archived: 1 }]);
    expect(await archive()).toEqual([{ table_name: "ai_email_queue", archived: 0 }]);
    expect((await db.query<{ id: string }>("select id from ai_email_queue")).map((row) => row.id).toSorted()).toEqual(
      [recent, pending].toSorted(),
    );
    const months =
      "select tableoid::regclass::text as month, count(*)::int as rows from brainops.job_archive group by 1 order by 1";
    expect(await db.query(months)).toEqual([
      { month: "brainops.job_archive_2025_03", rows: 2 },
      { month: "brainops.job_archive_2025_04", rows: 1 },
    ]);
    const own = await db.as<{ subject: string }>(
      "tenantA",
      "select (jsonb_populate_record(null::ai_email_queue, job_row)).subject from brainops.job_archive where row_id = $1",
      [ids[0]],
    );
    expect(own).toEqual([{ subject: "from A" }]);
    expect(await db.as("tenantA", "select from brainops.job_archive")).toHaveLength(2);
    expect(await db.as("tenantB", "select from brainops.job_archive")).toHaveLength(1);
    for (const text of [
      "select * from brainops.job_archive_2025_03",
      "delete from brainops.job_archive",
      "update brainops.job_archive set status = 'x'",
    ]) {
      expect([text, (await refusal(db.as("tenantA", text))).code]).toEqual([text, "42501"]);
    }
    expect((await refusal(db.query("update brainops.job_archive set status = 'x'"))).code).toBe("42501");
    expect(await db.query("select * from brainops.unprotected_tables")).toEqual([]);
  });

  it("drops months past the settings, creates the coming ones, and deletes old webhooks", async () => {
    await worker.query("select brainops_internal.ensure_partitions('brainops.job_events', '2025-01-01', 2)");
    await db.query(
      `insert into webhook_events (provider, provider_event_id, payload, signature_ok, status, received_at, processed_at)
       values ('sendgrid', 'old', '{}', true, 'completed', now(), now() - interval '31 days'), ('sendgrid', 'new', '{}', true, 'completed', now(), now()),
         ('sendgrid', 'pending', '{}', true, 'pending', now() - interval '90 days', null)`,
    );
    await db.as("admin", "update brainops.settings set value = '2 months' where name = 'drop_archive_after'");
    const dropped = (await worker.query<{ retain_months: string }>("select brainops.retain_months()")).rows.map(
      (row) => row.retain_months,
    );
    expect(dropped).toEqual(
      expect.arrayContaining([
        "brainops.job_archive_2025_03",
        "brainops.job_events_2025_01",
        "brainops.job_events_2025_02",
      ]),
    );
    const left = await db.query<{ name: string }>(
      "select relname as name from pg_class where relname ~ '^job_(events|archive)_2025_0[1-4]$'",
    );
    expect(left).toEqual([]);
    expect((await worker.query("select brainops_internal.prune_webhook_events() as n")).rows).toEqual([{ n: 1 }]);
    expect(await db.query("select provider_event_id from webhook_events order by 1")).toEqual([
      { provider_event_id: "new" },
      { provider_event_id: "pending" },
    ]);
    // A year from now, a change of status still has its partition.
    const months = "select count(*)::int as n from pg_inherits where inhparent = 'brainops.job_events'::regclass";
    const [before] = await db.query<{ n: number }>(months);
    await db.setClock("6 months");
    await worker.query("select brainops.retain_months()");
    const [after] = await db.query<{ n: number }>(months);
    expect(after?.n).toBeGreaterThan((before?.n ?? 0) - 4);
    expect(
      await db.query(
        "select to_regclass('brainops.job_events_' || to_char(now() + interval '18 months', 'YYYY_MM')) is not null as made",
      ),
    ).toEqual([{ made: true }]);
    expect(
      await db.query("select to_regclass('brainops.job_events_' || to_char(now(), 'YYYY_MM')) is null as gone"),
    ).toEqual([{ gone: true }]);
  });
});

describe("reports on messages", () => {
  const reports = `
    select 'mail' as of, event as what from email_deliveries
    union all select 'bounce', reason from email_bounces
    union all select 'text', event from sms_deliveries
    order by 1, 2`;

  it("are deleted past the setting, a bounded number at a time, except for people's choices", async () => {
    const at = "now() - interval '14 months'";
    await db.query(
      `insert into email_deliveries (tenant_id, recipient, event, occurred_at, metadata)
       select $1::uuid, 'ann@example.com', e, ${at}, '{}'::jsonb from unnest(
         '{processed,delivered,open,click,bounce,unsubscribe,group_unsubscribe,group_resubscribe,dropped}'::text[]) as e
       union all select $1::uuid, 'ann@example.com', 'dropped', ${at} - interval '1 second', '{"reason": "Unsubscribed Address"}'
       union all select $1::uuid, 'bob@example.com', 'delivered', now() - interval '12 months', '{}'`,
      [db.tenantA],
    );
    await db.query(
      `insert into email_bounces (tenant_id, recipient, bounce_type, reason, occurred_at)
       values ($1, 'ann@example.com', 'hard', 'old', ${at}), ($1, 'ann@example.com', 'hard', 'new', now())`,
      [db.tenantA],
    );
    await db.query(
      `insert into sms_deliveries (tenant_id, recipient, event, provider_message_id, occurred_at)
       values ($1, '+13035550101', 'delivered', 'SM1', ${at}), ($1, '+13035550101', 'sent', 'SM2', now())`,
      [db.tenantA],
    );
    const prune = async (): Promise<unknown> =>
      (await worker.query("select brainops_internal.prune_reports(4) as n")).rows;
    expect(await prune()).toEqual([{ n: 4 }]);
    expect(await prune()).toEqual([{ n: 2 }]);
    expect(await prune()).toEqual([{ n: 0 }]);
    expect(await db.query(reports)).toEqual([
      { of: "bounce", what: "new" },
      { of: "mail", what: "delivered" },
      { of: "mail", what: "dropped" },
      { of: "mail", what: "group_resubscribe" },
      { of: "mail", what: "group_unsubscribe" },
      { of: "mail", what: "unsubscribe" },
      { of: "text", what: "sent" },
    ]);
  });

  it("are kept for as long as an admin sets, and pruned by no one else", async () => {
    await db.as("admin", "update brainops.settings set value = '20 years' where name = 'drop_reports_after'");
    await db.query(
      "insert into email_bounces (tenant_id, recipient, bounce_type, reason, occurred_at) values ($1, 'ann@example.com', 'soft', 'kept', now() - interval '10 years')",
      [db.tenantA],
    );
    expect((await worker.query("select brainops_internal.prune_reports() as n")).rows).toEqual([{ n: 0 }]);
    expect((await refusal(db.as("tenantA", "select brainops_internal.prune_reports()"))).code).toBe("42501");
    expect((await refusal(db.as("service", "select brainops_internal.prune_reports()"))).code).toBe("42501");
  });
});
