// Changes by SQL: what an update and a delete do to a row and its job, and what only the engine may write.
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { deleting } from "../support/deleteRows.ts";
import { claimOne, insertMail, jobsOf, mail } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";
import { touched } from "../support/seeds.ts";

let db: TestDatabase;
let asA: pg.Client;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  [asA, worker] = await Promise.all([db.connect("tenantA"), db.connect("worker")]);
});

afterEach(() => db.query("delete from ai_email_queue"));

afterAll(() => db.close());

describe("an update", () => {
  it("of scheduled_for moves the job", async () => {
    const id = await insertMail(db, "tenantA");
    await db.as("tenantA", "update ai_email_queue set scheduled_for = '2100-01-01Z' where id = $1", [id]);
    expect(await jobsOf(db, id)).toMatchObject([{ run_at: new Date("2100-01-01Z") }]);
    await db.as("tenantA", "update ai_email_queue set scheduled_for = null where id = $1", [id]);
    const [job] = await jobsOf(db, id);
    expect(job?.run_at.getTime()).toBeLessThanOrEqual(Date.now());
  });

  it("to cancelled deletes the job, to pending adds it again as new", async () => {
    const id = await insertMail(db, "tenantA");
    await db.query("update ai_email_queue set attempts = 3 where id = $1", [id]);
    await db.as("tenantA", "update ai_email_queue set status = 'canceled' where id = $1", [id]);
    expect(await mail(db, id)).toMatchObject({ status: "cancelled", finished_at: expect.any(Date) });
    expect(await jobsOf(db, id)).toEqual([]);
    await db.as("tenantA", "update ai_email_queue set status = 'queued' where id = $1", [id]);
    expect(await mail(db, id)).toMatchObject({ status: "pending", attempts: 0, finished_at: null });
    expect(await jobsOf(db, id)).toHaveLength(1);
  });

  it.each([
    ["sent", "OP002"],
    ["processing", "OP003"],
    ["unconfirmed", "OP003"],
  ])("to %s is refused", async (status, code) => {
    const id = await insertMail(db, "tenantA");
    const refused = await refusal(
      db.as("tenantA", "update ai_email_queue set status = $2 where id = $1", [id, status]),
    );
    expect(refused).toMatchObject({ code });
    expect(refused.hint).toMatch(/pending|cancelled|confirm/);
  });

  it("cannot cancel a completed row, nor reset one that is being processed", async () => {
    const done = await insertMail(db, "tenantA", { status: "completed" });
    const cancel = "update ai_email_queue set status = 'cancelled' where id = $1";
    expect((await refusal(db.as("tenantA", cancel, [done]))).code).toBe("OP003");
    const running = await insertMail(db, "tenantA");
    await claimOne(worker, db.tenantA, running);
    for (const status of ["pending", "completed", "failed", "skipped"]) {
      const refused = await refusal(
        db.as("tenantA", "update ai_email_queue set status = $2 where id = $1", [running, status]),
      );
      expect([status, refused.code]).toEqual([status, "OP003"]);
    }
    await db.as("tenantA", cancel, [running]);
    expect(await mail(db, running)).toMatchObject({ status: "processing", cancel_requested_at: expect.any(Date) });
  });

  it("of many rows adds one event each, and a delete removes the jobs", async () => {
    const ids = [await insertMail(db, "tenantA"), await insertMail(db, "tenantA")];
    await db.as("tenantA", "update ai_email_queue set status = 'cancelled' where id = any ($1)", [ids]);
    await db.as("tenantA", "update ai_email_queue set status = 'pending', subject = 'again' where id = any ($1)", [
      ids,
    ]);
    await db.as("tenantA", "update ai_email_queue set subject = 'and again' where id = any ($1)", [ids]);
    for (const id of ids) {
      const events = await db.as(
        "tenantA",
        "select from_status, to_status, table_name, changed_by from brainops.job_events where row_id = $1 order by id",
        [id],
      );
      const login = new URL(db.urlOf("tenantA")).username;
      expect(events).toEqual([
        { from_status: "pending", to_status: "cancelled", table_name: "ai_email_queue", changed_by: login },
        { from_status: "cancelled", to_status: "pending", table_name: "ai_email_queue", changed_by: login },
      ]);
    }
    const jobs = async (): Promise<number[]> => Promise.all(ids.map(async (id) => (await jobsOf(db, id)).length));
    expect(await jobs()).toEqual([1, 1]);
    await db.as("tenantA", deleting("delete from ai_email_queue where id = any ($1)"), [ids]);
    expect(await jobs()).toEqual([0, 0]);
  });

  it("of an event is refused for everyone, and so is its deletion", async () => {
    await insertMail(db, "tenantA").then((id) =>
      db.as("tenantA", "update ai_email_queue set status = 'cancelled' where id = $1", [id]),
    );
    for (const text of [
      "update brainops.job_events set detail = 'nothing happened'",
      "update brainops.job_events set detail = 'erased'",
      "delete from brainops.job_events",
      "truncate brainops.job_events",
    ]) {
      for (const seat of ["tenantA", "admin"] as const) expect((await refusal(db.as(seat, text))).code).toBe("42501");
      expect([text, (await refusal(db.query(text))).code]).toEqual([text, "42501"]);
    }
    expect(await db.query("select from brainops.job_events")).not.toEqual([]);
  });
});

describe("the columns that the engine writes", () => {
  const engines = [
    "attempts",
    "deferrals",
    "last_error",
    "skip_reason",
    "lease",
    "worker_id",
    "started_at",
    "finished_at",
  ];
  const more = ["rate_slot", "cancel_requested_at", "sent_at", "provider_message_id"];

  it.each([...engines, ...more])("%s cannot be written by clients", async (column) => {
    await insertMail(db, "tenantA");
    for (const seat of ["tenantA", "service"] as const) {
      expect((await refusal(db.as(seat, `update ai_email_queue set ${column} = null`))).code).toBe("42501");
      const insert = `insert into ai_email_queue (recipient, subject, body, ${column}) values ('ann@example.com', 's', 'b', null)`;
      expect((await refusal(db.as(seat, insert))).code).toBe("42501");
    }
  });

  it("exclude all the others, except for id, tenant and creation", async () => {
    await insertMail(db, "tenantA");
    for (const column of [
      "recipient",
      "subject",
      "body",
      "metadata",
      "scheduled_for",
      "job_priority",
      "max_attempts",
      "idempotency_key",
    ]) {
      expect([column, await touched(asA, `update ai_email_queue set ${column} = ${column}`)]).toEqual([column, 1]);
    }
    for (const column of ["id", "tenant_id", "created_at"]) {
      expect([column, await touched(asA, `update ai_email_queue set ${column} = ${column}`)]).toEqual([
        column,
        "42501",
      ]);
    }
    const move = db.as("admin", "update ai_email_queue set tenant_id = $1", [db.tenantB]);
    expect((await refusal(move)).code).toBe("OP003");
  });
});
