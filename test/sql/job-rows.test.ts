// Job rows without a worker: what an insert, an update and a delete do to the row and its job.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { insertMail, jobsOf, mail } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";
import { touched } from "../support/seeds.ts";

let db: TestDatabase;
let asA: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  asA = await db.connect("tenantA");
});

afterEach(() => db.query("delete from ai_email_queue"));

afterAll(() => db.close());

const VALUES = "('ann@example.com', 'Hello', 'Hi')";

describe("an inserted row", () => {
  it.each(["pending", "queued", "scheduled", "new", "open", " Queued ", "PENDING"])(
    "with status %j is pending",
    async (status) => {
      const id = await insertMail(db, "tenantA", { status });
      expect(await mail(db, id)).toMatchObject({
        status: "pending",
        attempts: 0,
        deferrals: 0,
        lease: null,
        finished_at: null,
      });
      expect(await jobsOf(db, id)).toHaveLength(1);
    },
  );

  it.each(["cancelled", "canceled", "CANCELED", "completed", "failed", "skipped", "awaiting_approval"])(
    "with status %j keeps it, without a job",
    async (status) => {
      const id = await insertMail(db, "tenantA", { status });
      const row = await mail(db, id);
      expect(row["status"]).toBe(status.toLowerCase().replace("canceled", "cancelled"));
      expect(row["finished_at"] === null).toBe(status === "awaiting_approval");
      expect(await jobsOf(db, id)).toEqual([]);
    },
  );

  it.each([
    ["sent", "OP002"],
    ["", "OP002"],
    ["processing", "OP003"],
    ["Processing ", "OP003"],
    ["unconfirmed", "OP003"],
  ])("with status %j is refused", async (status, code) => {
    const refused = await refusal(insertMail(db, "tenantA", { status }));
    expect(refused).toMatchObject({ code, message: expect.stringContaining(`'${status}'`) });
    expect(refused.hint).toMatch(/pending/);
  });

  it("is due now if scheduled_for is missing or null", async () => {
    for (const columns of [{}, { scheduled_for: null }, { status: null }]) {
      const id = await insertMail(db, "tenantA", columns).catch((error: unknown) => {
        throw new Error(JSON.stringify(columns), { cause: error });
      });
      const due = await db.query(
        "select from ai_email_queue where id = $1 and scheduled_for <= now() and status = 'pending'",
        [id],
      );
      expect(due).toHaveLength(1);
    }
  });

  it("has one job, named after tenant, table and row, with ids and nothing else in it", async () => {
    const at = new Date("2100-05-01T12:00:00Z");
    const id = await insertMail(db, "tenantA", { scheduled_for: at, subject: "a secret" });
    expect(await jobsOf(db)).toEqual([
      {
        key: `${db.tenantA}:ai_email_queue:${id}`,
        task: "email__send",
        payload: { id, tenant_id: db.tenantA },
        priority: 50,
        attempts: 0,
        run_at: at,
      },
    ]);
  });

  it("has no job when its transaction is rolled back, or any row of its statement is refused", async () => {
    await asA.query("begin");
    await asA.query(`insert into ai_email_queue (recipient, subject, body) values ${VALUES}`);
    await asA.query("rollback");
    const refused = await refusal(
      asA.query(
        `insert into ai_email_queue (recipient, subject, body) values ${VALUES}, ('nobody', 's', 'b'), ${VALUES}`,
      ),
    );
    expect(refused).toMatchObject({ code: "OP004", message: expect.stringContaining("'nobody'") });
    expect(await db.query("select from ai_email_queue")).toEqual([]);
    expect(await jobsOf(db)).toEqual([]);
  });

  it("is one of 10,000 in a statement, each with its own job", async () => {
    await asA.query(
      "insert into ai_email_queue (recipient, subject, body) select 'p' || i || '@example.com', 's', 'b' from generate_series(1, 10000) as i",
    );
    const [count] = await db.query(
      `select count(*)::int as rows, count(distinct j.key)::int as jobs from ai_email_queue as q
       left join graphile_worker._private_jobs as j on j.key = q.tenant_id || ':ai_email_queue:' || q.id`,
    );
    expect(count).toEqual({ rows: 10_000, jobs: 10_000 });
  });

  it("with an idempotency key that was used before is accepted for another tenant only", async () => {
    await insertMail(db, "tenantA", { idempotency_key: "order-7" });
    expect((await refusal(insertMail(db, "tenantA", { idempotency_key: "order-7" }))).code).toBe("23505");
    await insertMail(db, "tenantB", { idempotency_key: "order-7" });
    const again = `insert into ai_email_queue (recipient, subject, body, idempotency_key) values ('a@b.example', 's', 'b', 'order-7')
                   on conflict (tenant_id, idempotency_key) where idempotency_key is not null do nothing`;
    expect(await touched(asA, again)).toBe(0);
    expect(await jobsOf(db)).toHaveLength(2);
  });

  it("of a small tenant comes before the backlog of a large one", async () => {
    await asA.query(
      "insert into ai_email_queue (recipient, subject, body) select 'x@example.com', 's', 'b' from generate_series(1, 500)",
    );
    const id = await insertMail(db, "tenantB");
    const order = await jobsOf(db);
    const place = order.findIndex((job) => job.key.endsWith(id));
    // Behind at most A's first 50, although A's rows came first.
    expect(place).toBeLessThanOrEqual(50);
    expect(order).toHaveLength(501);
    // A's own later rows come after its earlier ones.
    const later = await insertMail(db, "tenantA");
    expect((await jobsOf(db)).findIndex((job) => job.key.endsWith(later))).toBe(501);
  });

  it("goes first with high priority, within its tenant's level", async () => {
    const usual = await insertMail(db, "tenantA");
    const high = await insertMail(db, "tenantA", { metadata: { priority: "high" } });
    expect((await jobsOf(db)).map((job) => job.key.slice(-36))).toEqual([high, usual]);
    expect((await refusal(insertMail(db, "tenantA", { job_priority: 51 }))).code).toBe("23514");
  });
});
