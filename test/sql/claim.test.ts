// brainops_internal.claim on real connections, step by step: which rows are claimed, and who holds them.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { beginAsWorker, CLAIM, claim, insertMail, jobsOf, mail, type Claim } from "../support/jobs.ts";

let db: TestDatabase;
let one: pg.Client;
let two: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  [one, two] = await Promise.all([db.connect("worker"), db.connect("worker")]);
});

afterEach(() => db.query("delete from ai_email_queue"));

afterAll(() => db.close());

async function insertMails(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let i = 0; i < count; i += 1) ids.push(await insertMail(db, "tenantA"));
  return ids;
}

describe("claim", () => {
  it("gives a due row a lease and an attempt, once", async () => {
    const [id = ""] = await insertMails(1);
    const worker = randomUUID();
    const [answer] = await claim(one, db.tenantA, [id], worker);
    expect(answer).toMatchObject({ id, outcome: "go", attempt: 1, reason: null });
    expect(await mail(db, id)).toMatchObject({
      status: "processing",
      lease: answer?.lease,
      worker_id: worker,
      attempts: 1,
    });
    expect(await claim(two, db.tenantA, [id])).toEqual([]);
  });

  it.each([
    ["that is not due yet", { scheduled_for: "2100-01-01Z" }],
    ["that was cancelled", { status: "cancelled" }],
    ["that waits for approval", { status: "awaiting_approval" }],
  ])("leaves out a row %s", async (_name, columns) => {
    expect(await claim(one, db.tenantA, [await insertMail(db, "tenantA", columns)])).toEqual([]);
  });

  it("leaves out rows of another tenant, and all rows if no tenant is set", async () => {
    const [id = ""] = await insertMails(1);
    expect(await claim(one, db.tenantB, [id])).toEqual([]);
    expect(await claim(one, "", [id])).toEqual([]);
    expect(await mail(db, id)).toMatchObject({ status: "pending", attempts: 0 });
    expect(await claim(one, db.tenantA, [id])).toHaveLength(1);
  });

  it("applies the gate: suppressed recipients are skipped, leads without an address fail", async () => {
    await db.as("tenantA", "insert into contact_suppressions (address, reason) values ('Ann@Example.com', 'manual')");
    const [lead] = await db.as<{ id: string }>(
      "tenantA",
      "insert into revenue_leads (email) values (' ') returning id",
    );
    const suppressed = await insertMail(db, "tenantA");
    const homeless = await insertMail(db, "tenantA", { recipient: lead?.id });
    const free = await insertMail(db, "tenantA", { recipient: "bob@example.com" });
    const answers = await claim(one, db.tenantA, [suppressed, homeless, free]);
    expect(new Map(answers.map((answer) => [answer.id, answer.outcome]))).toEqual(
      new Map([
        [suppressed, "skip"],
        [homeless, "fail"],
        [free, "go"],
      ]),
    );
    expect(await mail(db, suppressed)).toMatchObject({
      status: "skipped",
      skip_reason: "suppressed: manual",
      attempts: 0,
    });
    expect(await mail(db, homeless)).toMatchObject({
      status: "failed",
      last_error: expect.stringContaining("no e-mail address"),
    });
    expect(await jobsOf(db, suppressed)).toEqual([]);
    // B's mail to the same person goes: a suppression applies to one tenant.
    expect(await claim(one, db.tenantB, [await insertMail(db, "tenantB")])).toMatchObject([{ outcome: "go" }]);
    await db.query("delete from contact_suppressions");
  });

  it.skipIf(!isServer)("by two workers at once gets disjoint rows (needs a server)", async () => {
    const ids = await insertMails(6);
    await beginAsWorker(one, db.tenantA);
    await beginAsWorker(two, db.tenantA);
    const first = (await one.query<Claim>(CLAIM, [ids.slice(0, 4), randomUUID()])).rows;
    // While the first still holds its locks, the second neither waits nor takes the same rows.
    const second = (await two.query<Claim>(CLAIM, [ids, randomUUID()])).rows;
    await two.query("commit");
    await one.query("commit");
    expect(new Set(first.map((row) => row.id))).toEqual(new Set(ids.slice(0, 4)));
    expect(new Set(second.map((row) => row.id))).toEqual(new Set(ids.slice(4)));
  });

  it.skipIf(!isServer)("that is rolled back leaves the row to the next (needs a server)", async () => {
    const [id = ""] = await insertMails(1);
    await beginAsWorker(one, db.tenantA);
    await one.query(CLAIM, [[id], randomUUID()]);
    expect(await claim(two, db.tenantA, [id])).toEqual([]);
    await one.query("rollback");
    expect(await claim(two, db.tenantA, [id])).toMatchObject([{ outcome: "go", attempt: 1 }]);
  });

  it.skipIf(!isServer)("of a row that a client has locked queues a second job (needs a server)", async () => {
    const [id = "", free = ""] = await insertMails(2);
    const later = await insertMail(db, "tenantA", { scheduled_for: "2100-01-01Z" });
    const client = await db.connect("tenantA");
    await client.query("begin");
    // The client holds the row and its job, so a claim that waited for either would hang here.
    await client.query("update ai_email_queue set job_priority = 1 where id = any ($1)", [[id, later]]);
    expect(await claim(one, db.tenantA, [id, free, later])).toMatchObject([{ id: free, outcome: "go" }]);
    await client.query("rollback");
    expect(await jobsOf(db, `${later}:again`)).toEqual([]);
    expect(await jobsOf(db, `${free}:again`)).toEqual([]);
    const [again, ...others] = await jobsOf(db, `${id}:again`);
    expect(others).toEqual([]);
    expect(again?.payload).toEqual({ id, tenant_id: db.tenantA });
    expect(Number(again?.run_at) - Date.now()).toBeGreaterThan(1000);
    // Asked again, it stays one job.
    await client.query("begin");
    await client.query("select from ai_email_queue where id = $1 for update", [id]);
    expect(await claim(one, db.tenantA, [id])).toEqual([]);
    await client.query("rollback");
    expect(await jobsOf(db, `${id}:again`)).toHaveLength(1);
    expect(await claim(one, db.tenantA, [id])).toMatchObject([{ outcome: "go", attempt: 1 }]);
  });
});
