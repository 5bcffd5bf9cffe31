// The SQL interface for admins: tenants, logins, the functions that change rows, the views.
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto";
import type pg from "pg";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { createTestDatabase, type TestDatabase } from "../support/database.ts";
import { claimOne, insertMail, jobsOf, mail, settle } from "../support/jobs.ts";
import { refusal } from "../support/refusal.ts";
import { onServer } from "../support/sql.ts";

let db: TestDatabase;
let worker: pg.Client;

beforeAll(async () => {
  db = await createTestDatabase();
  worker = await db.connect("worker");
});

afterEach(() => db.query("delete from ai_email_queue"));

afterAll(() => db.close());

describe("create_tenant", () => {
  it("returns the id of the new tenant, for an admin", async () => {
    const [row] = await db.as("admin", "select brainops.create_tenant('acme', 'Acme', 'Europe/Berlin') as id");
    expect(await db.query("select id, name, time_zone, status from tenants where slug = 'acme'")).toEqual([
      { id: row?.["id"], name: "Acme", time_zone: "Europe/Berlin", status: "active" },
    ]);
  });

  it.each([
    ["'Acme Inc', 'Acme'", "23514"],
    ["'acme-2', ''", "23514"],
    ["'acme-2', 'Acme', 'Mars/Base'", "23514"],
    ["'tenant-a', 'Again'", "23505"],
  ])("refuses %s", async (args, code) => {
    expect((await refusal(db.as("admin", `select brainops.create_tenant(${args})`))).code).toBe(code);
  });
});

describe("create_login", () => {
  const name = (): string => `t_extra_${randomBytes(6).toString("hex")}`;

  async function withLogin(password: string, given: string, run: (url: string) => Promise<void>): Promise<void> {
    const login = name();
    await db.query("select brainops.create_login('tenant-b', $1, $2)", [login, given]);
    try {
      const url = new URL(db.url);
      url.username = login;
      url.password = password;
      await run(url.href);
    } finally {
      await db.query(`drop role ${login}`);
    }
  }

  it("creates a login that is bound to its tenant, with limits", async () => {
    await withLogin("a long password", "a long password", async (url) => {
      await onServer(url, async (client) => {
        expect((await client.query("select (select brainops.current_tenant_id()) as id")).rows).toEqual([
          { id: db.tenantB },
        ]);
        expect((await client.query("show statement_timeout")).rows).toEqual([{ statement_timeout: "1min" }]);
        await client.query("set app.tenant_id = 'x'; insert into revenue_leads (email) values ('x@b.example')");
        expect((await client.query("select tenant_id from revenue_leads")).rows).toEqual([{ tenant_id: db.tenantB }]);
      });
    });
  });

  it("accepts a SCRAM-SHA-256 verifier instead of the password", async () => {
    const salt = randomBytes(16);
    const salted = pbkdf2Sync("a long password", salt, 4096, 32, "sha256");
    const hmac = (text: string): Buffer => createHmac("sha256", salted).update(text).digest();
    const stored = createHash("sha256").update(hmac("Client Key")).digest("base64");
    const verifier = `SCRAM-SHA-256$4096:${salt.toString("base64")}$${stored}:${hmac("Server Key").toString("base64")}`;
    await withLogin("a long password", verifier, async (url) => {
      const login = new URL(url).username;
      expect(await db.query("select rolpassword from pg_authid where rolname = $1", [login])).toEqual([
        { rolpassword: verifier },
      ]);
      await onServer(url, async (client) => {
        expect((await client.query("select slug from tenants")).rows).toEqual([{ slug: "tenant-b" }]);
      });
    });
  });

  it("refuses a short password, an unknown tenant, and callers without CREATEROLE", async () => {
    const create = "select brainops.create_login($1, $2, $3)";
    expect(await refusal(db.query(create, ["tenant-a", name(), "short"]))).toMatchObject({
      code: "OP005",
      hint: expect.stringContaining("SCRAM"),
    });
    expect(await refusal(db.query(create, ["nobody", name(), "a long password"]))).toMatchObject({ code: "OP007" });
    expect((await refusal(db.as("admin", create, ["tenant-a", name(), "a long password"]))).code).toBe("42501");
  });
});

describe("the functions that change rows", () => {
  const call = (seat: "admin" | "tenantA" | "tenantB", verb: string, id: string): Promise<Record<string, unknown>[]> =>
    db.as(seat, `select ${verb} as status`, [id]);
  const retry = "brainops.retry('ai_email_queue', $1)";
  const cancel = "brainops.cancel('ai_email_queue', $1)";
  const confirm = "brainops.confirm('ai_email_queue', $1, true)";

  it.each(["failed", "cancelled", "skipped", "awaiting_approval"])("retry runs a %s row again, now", async (status) => {
    const id = await insertMail(db, "tenantA", { status, scheduled_for: "2100-01-01Z" });
    expect(await call("admin", retry, id)).toEqual([{ status: "pending" }]);
    const [job] = await jobsOf(db, id);
    expect(job?.run_at.getTime()).toBeLessThanOrEqual(Date.now());
  });

  it.each([
    [retry, "completed"],
    [retry, "pending"],
    [cancel, "completed"],
    [confirm, "failed"],
  ])("%s is refused for a row that is %s", async (verb, status) => {
    const id = await insertMail(db, "tenantA", { status });
    const refused = await refusal(call("admin", verb, id));
    expect(refused).toMatchObject({ code: "OP010", message: expect.stringContaining(status) });
    expect(await mail(db, id)).toMatchObject({ status });
  });

  it("apply to a tenant's own rows, and to all rows for an admin", async () => {
    const id = await insertMail(db, "tenantA");
    expect((await refusal(call("tenantB", cancel, id))).code).toBe("OP009");
    expect(await call("tenantA", cancel, id)).toEqual([{ status: "cancelled" }]);
    expect(await call("tenantA", retry, id)).toEqual([{ status: "pending" }]);
    expect(await call("admin", cancel, id)).toEqual([{ status: "cancelled" }]);
  });

  it("list the job tables for a table that is not one", async () => {
    const refused = await refusal(db.as("admin", "select brainops.retry('tenants', gen_random_uuid())"));
    expect(refused).toMatchObject({
      code: "OP007",
      message: expect.stringContaining("'tenants'"),
      hint: expect.stringContaining("ai_email_queue"),
    });
  });

  it("retry_failed retries what failed since then, of the caller's tenants", async () => {
    const [a, b] = [
      await insertMail(db, "tenantA", { status: "failed" }),
      await insertMail(db, "tenantB", { status: "failed" }),
    ];
    const old = await insertMail(db, "tenantA", { status: "failed" });
    await db.query("update ai_email_queue set finished_at = now() - interval '2 days' where id = $1", [old]);
    const again = "select brainops.retry_failed('ai_email_queue', now() - interval '1 day') as rows";
    expect(await db.as("tenantA", again)).toEqual([{ rows: 1 }]);
    expect(await mail(db, b)).toMatchObject({ status: "failed" });
    expect(await db.as("admin", again)).toEqual([{ rows: 1 }]);
    for (const id of [a, b]) expect(await mail(db, id)).toMatchObject({ status: "pending" });
    expect(await mail(db, old)).toMatchObject({ status: "failed" });
  });
});

describe("the views", () => {
  it("show waiting, running and failed rows: to a tenant its own, to an admin all", async () => {
    const ids = [await insertMail(db, "tenantA"), await insertMail(db, "tenantA"), await insertMail(db, "tenantA")];
    const [failed = "", lost = ""] = ids;
    await insertMail(db, "tenantA", { scheduled_for: "2100-01-01Z" });
    await insertMail(db, "tenantB");
    await settle(worker, db.tenantA, [
      { id: failed, lease: await claimOne(worker, db.tenantA, failed), outcome: "fail", reason: "no" },
      { id: lost, lease: await claimOne(worker, db.tenantA, lost), outcome: "unconfirmed", reason: "timeout" },
    ]);
    await claimOne(worker, db.tenantA, ids[2] ?? "");
    const health =
      "select tenant_id, due::int, later::int, processing::int, unconfirmed::int, failed::int from brainops.queue_health order by due, tenant_id";
    const ofA = { tenant_id: db.tenantA, due: 0, later: 1, processing: 1, unconfirmed: 1, failed: 1 };
    const ofB = { tenant_id: db.tenantB, due: 1, later: 0, processing: 0, unconfirmed: 0, failed: 0 };
    expect(await db.as("admin", health)).toEqual([ofA, ofB]);
    expect(await db.as("tenantA", health)).toEqual([ofA]);
    expect(await db.as("tenantB", health)).toEqual([ofB]);

    const dead = "select id, status, last_error from brainops.dead_letters order by status";
    const letters = [
      { id: failed, status: "failed", last_error: "no" },
      { id: lost, status: "unconfirmed", last_error: "timeout" },
    ];
    expect(await db.as("admin", dead)).toEqual(letters);
    expect(await db.as("tenantA", dead)).toEqual(letters);
    expect(await db.as("tenantB", dead)).toEqual([]);
    expect(await db.as("admin", "select from brainops.jobs")).toHaveLength(5);
    expect(await db.as("tenantB", "select from brainops.jobs")).toHaveLength(1);
  });

  it("show a worker as alive, even if a tenant holds every lock that it could predict", async () => {
    const tenant = await db.connect("tenantA");
    await tenant.query("select count(pg_advisory_lock(1112690512, i)) from generate_series(0, 500) as i");
    const starting = await db.connect("worker");
    const { rows } = await starting.query(
      "select brainops_internal.register_worker('00000000-0000-4000-8000-000000000001', 'host-0', 1, '{}') as announced",
    );
    expect(rows).toEqual([{ announced: true }]);
    expect(await db.as("admin", "select state from brainops.workers")).toEqual([{ state: "alive" }]);
    await starting.query("select brainops_internal.deregister_worker('00000000-0000-4000-8000-000000000001')");
    await tenant.query("select pg_advisory_unlock_all()");
  });

  it("of workers and breakers are for admins only", async () => {
    const announced = await db.connect("worker");
    await announced.query("select brainops_internal.register_worker(gen_random_uuid(), 'host-1', 1, '{email__send}')");
    await worker.query("select brainops_internal.hold_account('sendgrid', now() + interval '1 hour')");
    expect(await db.as("admin", "select host, state, tasks from brainops.workers")).toEqual([
      { host: "host-1", state: "alive", tasks: ["email__send"] },
    ]);
    expect(await db.as("admin", "select account, state from brainops.breakers")).toEqual([
      { account: "sendgrid", state: "open" },
    ]);
    for (const view of ["workers", "breakers", "unprotected_tables"]) {
      expect((await refusal(db.as("tenantA", `select * from brainops.${view}`))).code).toBe("42501");
    }
  });
});
