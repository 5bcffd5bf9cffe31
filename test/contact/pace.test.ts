// The pace of sending: warm-up and hourly limits, feedback of mailbox providers, and rows that resume after a pause.
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { setNow } from "../support/clock.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { claim, insertMail, mail, type Claim } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;
let one: pg.Client;
let two: pg.Client;
const HOUR = 3_600_000;
const START = Date.parse("2026-06-03T18:00Z");

beforeAll(async () => {
  db = await createTestDatabase();
  [one, two] = await Promise.all([db.connect("worker"), db.connect("worker")]);
});

beforeEach(async () => {
  await db.query(
    `truncate ai_email_queue, email_deliveries, email_bounces, contact_policies, marketing_holds, sender_warmups, tenant_notifications,
       brainops.contact_counts, brainops.pauses, brainops.rate_limits, graphile_worker._private_jobs cascade`,
  );
  await db.query(`update tenants set settings = '{"postal_address": "1 Main St, Denver"}'`);
  await db.query(
    "insert into contact_policies (tenant_id, channel, window_start, window_end) values ($1, 'email', '00:00', '00:00')",
    [db.tenantA],
  );
  await setNow(db, new Date(START));
});

afterAll(() => db.close());

async function insertMails(count: number, metadata: object = { marketing: true }): Promise<string[]> {
  const rows = await db.query<{ id: string }>(
    `insert into ai_email_queue (tenant_id, recipient, subject, body, metadata, scheduled_for)
     select $1, 'p' || n || '@example.com', 'Hi', 'Hi', $2, brainops.now() - interval '1 minute' from generate_series(1, $3) as n returning id`,
    [db.tenantA, metadata, count],
  );
  return rows.map(({ id }) => id);
}

const gone = (answers: readonly Claim[]): number => answers.filter((answer) => answer.outcome === "go").length;

describe("a warm-up", () => {
  it("sends per hour what its day allows, and moves the others to hours with room", async () => {
    await db.as("admin", "select brainops.start_warmup('tenant-a', 'email', '{2,4}')");
    const ids = await insertMails(7);
    expect(gone(await claim(one, db.tenantA, ids))).toBe(2);
    const waiting = await db.query<{ hour: Date; n: number }>(
      "select date_trunc('hour', scheduled_for) as hour, count(*)::int as n from ai_email_queue where status = 'pending' group by 1 order by 1",
    );
    expect(waiting).toEqual([
      { hour: new Date(START + HOUR), n: 2 },
      { hour: new Date(START + 2 * HOUR), n: 2 },
      { hour: new Date(START + 3 * HOUR), n: 1 },
    ]);
    expect(
      await db.query("select distinct left(last_error, 12) as why from ai_email_queue where status = 'pending'"),
    ).toEqual([{ why: "hourly limit" }]);
    const went: number[] = [];
    for (let hour = 1; hour <= 3; hour += 1) {
      await setNow(db, new Date(START + hour * HOUR + 59 * 60_000));
      went.push(gone(await claim(one, db.tenantA, ids)));
    }
    expect(went).toEqual([2, 2, 1]);
  });

  it("counts its days from the tenant's midnight, and ends after the last", async () => {
    await db.as("admin", "select brainops.start_warmup('tenant-a', 'email')");
    const limit = async (at: string): Promise<unknown> =>
      (
        await db.query<{ n: unknown }>("select brainops_internal.hourly_limit($1, 'email', $2) as n", [db.tenantA, at])
      )[0]?.n;
    expect(await limit("2026-06-04T05:59Z")).toBe(20); // 23:59 in Denver
    expect(await limit("2026-06-04T06:00Z")).toBe(28);
    expect(await limit("2026-07-08T18:00Z")).toBe(2_603_222);
    expect(await limit("2026-07-09T18:00Z")).toBeNull();
    expect(await refusal(db.as("tenantA", "update sender_warmups set plan = '{1000000}'"))).toMatchObject({
      code: "42501",
    });
  });

  it.skipIf(!isServer)("is counted once for two workers that claim at once (needs a server)", async () => {
    await db.query("update contact_policies set hourly_limit = 10");
    const ids = await insertMails(30);
    const answers = await Promise.all([
      claim(one, db.tenantA, ids.slice(0, 15)),
      claim(two, db.tenantA, ids.slice(15)),
    ]);
    expect(gone(answers.flat())).toBe(10);
    expect(answers.flat()).toHaveLength(30);
  });

  it("does not hold transactional mails", async () => {
    await db.query("update contact_policies set hourly_limit = 1");
    expect(gone(await claim(one, db.tenantA, await insertMails(3, {})))).toBe(3);
  });
});

describe("guard_reputation", () => {
  async function sent(count: number, complaints: number, hardBounces: number): Promise<number | undefined> {
    await db.query(
      `insert into ai_email_queue (tenant_id, recipient, subject, body, status, finished_at)
       select $1, 'q' || n || '@example.com', 'Hi', 'Hi', 'completed', brainops.now() - interval '1 hour' from generate_series(1, $2) as n`,
      [db.tenantA, count],
    );
    await db.query(
      "insert into email_deliveries (tenant_id, recipient, event, occurred_at) select $1, 'q' || n || '@example.com', 'spamreport', brainops.now() from generate_series(1, $2) as n",
      [db.tenantA, complaints],
    );
    await db.query(
      "insert into email_bounces (tenant_id, recipient, bounce_type, occurred_at) select $1, 'q' || n || '@example.com', 'hard', brainops.now() from generate_series(1, $2) as n",
      [db.tenantA, hardBounces],
    );
    return (await db.as<{ n: number }>("admin", "select brainops_internal.guard_reputation() as n"))[0]?.n;
  }
  const notified = async (): Promise<string[]> =>
    (
      await db.query<{ subject: string }>("select subject from tenant_notifications where tenant_id = $1", [db.tenantA])
    ).map(({ subject }) => subject);

  it.each([
    ["3 complaints of 1,000 mails", 1000, 3, 0, 1, ["Marketing by e-mail is on hold"]],
    ["3 complaints of 2,000: a warning", 2000, 3, 0, 0, ["Your mails are being reported as spam"]],
    ["3 complaints of 3,500", 3500, 3, 0, 0, []],
    ["2 complaints of 10: too few to judge", 10, 2, 0, 0, []],
    ["10 hard bounces of 200", 200, 0, 10, 1, ["Marketing by e-mail is on hold"]],
    ["10 hard bounces of 250", 250, 0, 10, 0, []],
  ])("%s", async (_name, count, complaints, bounces, held, subjects) => {
    expect(await sent(count, complaints, bounces)).toBe(held);
    expect(await notified()).toEqual(subjects);
    expect((await db.query("select from marketing_holds where lifted_at is null")).length).toBe(held);
  });

  it("holds once, records the reason on the rows, and does not hold again for the same complaints", async () => {
    expect(await sent(100, 5, 0)).toBe(1);
    expect(await sent(0, 0, 0)).toBe(0);
    const [id = ""] = await insertMails(1);
    expect(await claim(one, db.tenantA, [id])).toMatchObject([
      { outcome: "defer", reason: expect.stringMatching(/^marketing on hold: 5 of 100 mails were reported/) },
    ]);
    await setNow(db, new Date(START + HOUR));
    await db.as("admin", "select brainops.lift_marketing_hold('tenant-a', 'email')");
    expect(await sent(0, 0, 0)).toBe(0);
    expect(gone(await claim(one, db.tenantA, [id]))).toBe(1);
  });
});

describe("after a pause", () => {
  it("rows resume one after the other, urgent ones first, and none is left out", async () => {
    const ids = await insertMails(200, {});
    await db.query("update ai_email_queue set job_priority = -10 where id = $1", [ids[150]]);
    await db.as("admin", "select brainops.pause('ai_email_queue', 'tenant-a')");
    expect(await db.as("admin", "select brainops.resume('ai_email_queue', 'tenant-a') as n")).toEqual([{ n: 200 }]);
    const [row] = await db.query(
      `select count(distinct scheduled_for)::int as times, extract(epoch from max(scheduled_for) - brainops.now())::float8 as last,
         (select id from ai_email_queue order by scheduled_for limit 1) as first from ai_email_queue`,
    );
    expect(row).toEqual({ times: 200, last: 9.95, first: ids[150] });
    expect(gone(await claim(one, db.tenantA, ids))).toBe(1);
    await setNow(db, new Date(START + 5000));
    expect(gone(await claim(one, db.tenantA, ids))).toBe(100);
    await setNow(db, new Date(START + 10_000));
    expect(gone(await claim(one, db.tenantA, ids))).toBe(99);
  });

  it("a rate limit sets the pace, and first_due_at is kept", async () => {
    await db.query(
      "insert into brainops.rate_limits (table_name, tenant_id, per_second, burst) values ('ai_email_queue', $1, 2, 1)",
      [db.tenantA],
    );
    const ids = await insertMails(5);
    await db.as("admin", "select brainops.pause('ai_email_queue', 'tenant-a')");
    await db.as("admin", "select brainops.resume('ai_email_queue', 'tenant-a')");
    const rows = await db.query<{ after: number }>(
      "select extract(epoch from scheduled_for - brainops.now())::float8 as after from ai_email_queue order by 1",
    );
    expect(rows.map(({ after }) => after)).toEqual([0, 0.5, 1, 1.5, 2]);
    expect(await mail(db, ids[0] ?? "")).toMatchObject({ first_due_at: new Date(START - 60_000) });
    const id = await insertMail(db, "tenantA", { metadata: { marketing: true } });
    await db.as("tenantA", "update ai_email_queue set scheduled_for = '2026-07-01Z' where id = $1", [id]);
    expect(await mail(db, id)).toMatchObject({ first_due_at: null });
  });
});
