// The session guard: a tenant's session that stops others is ended, and nobody else's. Needs sessions that wait for each
// other, so it is skipped on the built-in Postgres. Limits are small, as a DBA would set them.
import pg from "pg";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { logins, sessions } from "../../src/cli/doctor/sessions.ts";
import { codeOf } from "../../src/errors.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { createTestDatabase, isServer, type Seat, type TestDatabase } from "../support/database.ts";
import { onServer } from "../support/sql.ts";
import { startTestWorker } from "../support/worker.ts";

let db: TestDatabase;
let form: string;
const opened = new Set<pg.Client>();

beforeAll(async () => {
  db = await createTestDatabase();
  const [row] = await db.query<{ id: string }>(
    "insert into lead_forms (tenant_id, name) values ($1, 'contact') returning id",
    [db.tenantA],
  );
  form = row?.id ?? "";
});
beforeEach(() => limits("200 milliseconds", "1 hour"));
afterEach(async () => {
  await Promise.allSettled([...opened].map((client) => client.end()));
  opened.clear();
  await db.query("delete from brainops.session_events");
});
afterAll(() => db.close());

async function limits(blocking: string, transaction: string): Promise<void> {
  const set = "update brainops.settings set value = $2::interval where name = $1";
  await db.as("admin", set, ["end_blocking_sessions_after", blocking]);
  await db.as("admin", set, ["end_transactions_after", transaction]);
}

interface Session {
  readonly client: pg.Client;
  readonly pid: number;
}

async function open(seat: Seat | "superuser", ...statements: string[]): Promise<Session> {
  const client = await db.connect(seat);
  opened.add(client);
  for (const statement of statements) await client.query(statement);
  const { rows } = await client.query<{ pid: number }>("select pg_backend_pid() as pid");
  return { client, pid: rows[0]?.pid ?? 0 };
}

const lock = (): string => `update lead_forms set active = not active where id = '${form}'`;

/** A session of the seat that holds the form's row, and sees the tenant A. */
const holder = (seat: Seat | "superuser"): Promise<Session> =>
  open(seat, `set app.tenant_id = '${db.tenantA}'`, "begin", lock());

/** Another session that waits for the row. Resolves once it has waited for longer than the limit. */
async function victimOf(blocker: Session): Promise<{ readonly waits: Promise<pg.QueryResult> }> {
  const victim = await open("worker", "set role brainops_worker", `set app.tenant_id = '${db.tenantA}'`);
  const waits = victim.client.query(lock());
  waits.catch(() => {});
  await db.until(
    `select exists (
       select from pg_locks where pid = $1 and not granted and waitstart < clock_timestamp() - interval '300 ms'
         and $2 = any (pg_blocking_pids(pid))
     )`,
    [victim.pid, blocker.pid],
  );
  return { waits };
}

const GUARD = "select pid, reason from brainops_internal.guard_sessions()";

async function look(): Promise<{ pid: number; reason: string }[]> {
  return db.as("worker", GUARD);
}

/** The SQLSTATE of a failed statement; undefined if it succeeded. */
async function codeOfFailure(statement: Promise<unknown>): Promise<string | undefined> {
  return statement.then(
    () => undefined,
    (error: unknown) => codeOf(error) ?? String(error),
  );
}

const gone = (pid: number): Promise<void> =>
  db.until("select not exists (select from pg_stat_activity where pid = $1)", [pid]);

interface Event {
  readonly login: string;
  readonly tenant_id: string;
  readonly pid: number;
  readonly reason: string;
  readonly long: boolean;
  readonly blocked: string[];
}

const events = (): Promise<Event[]> =>
  db.as(
    "admin",
    "select login, tenant_id, pid, reason, lasted > '200 ms' as long, blocked from brainops.session_events",
  );

describe.skipIf(!isServer)("the session guard (server only)", () => {
  it("ends a tenant's session that blocks another, and records it; its victim goes on", async () => {
    const blocker = await holder("tenantA");
    const { waits } = await victimOf(blocker);
    expect(await look()).toEqual([{ pid: blocker.pid, reason: "blocked others" }]);
    expect((await waits).rowCount).toBe(1);
    await gone(blocker.pid);
    const [event, ...others] = await events();
    expect(others).toEqual([]);
    expect(event).toMatchObject({
      login: new URL(db.urlOf("tenantA")).username,
      tenant_id: db.tenantA,
      pid: blocker.pid,
      reason: "blocked others",
      long: true,
      blocked: [expect.stringContaining(new URL(db.urlOf("worker")).username)],
    });
    expect(JSON.stringify(event)).not.toContain("update");
  });

  it("leaves a session that blocks for less than the limit, and one that blocks nobody", async () => {
    await limits("1 hour", "1 hour");
    const blocker = await holder("tenantA");
    const { waits } = await victimOf(blocker);
    const idle = await open("tenantB", "begin", "select 1");
    expect(await look()).toEqual([]);
    await blocker.client.query("rollback");
    expect((await waits).rowCount).toBe(1);
    expect((await idle.client.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    expect(await events()).toEqual([]);
  });

  it("adds up the waits of victims that give up at their lock_timeout and come back", async () => {
    await limits("1 second", "1 hour");
    const blocker = await holder("tenantA");
    const victim = await open("worker", "set role brainops_worker", `set app.tenant_id = '${db.tenantA}'`);
    await victim.client.query("set lock_timeout = '400ms'");
    const looker = await open("worker");
    const refusals: unknown[] = [];
    for (let tries = 0; tries < 20; tries += 1) {
      const attempt = codeOfFailure(victim.client.query(lock()));
      const over = attempt.then(() => "over");
      while ((await Promise.race([over, looker.client.query(GUARD)])) !== "over");
      const code = await attempt;
      if (code === undefined) break;
      refusals.push(code);
    }
    expect(refusals.length).toBeGreaterThan(1);
    expect(new Set(refusals)).toEqual(new Set(["55P03"]));
    expect(await events()).toMatchObject([{ pid: blocker.pid, reason: "blocked others" }]);
  });

  it("ends a session that blocks through another that waits", async () => {
    const root = await holder("tenantA");
    // The middle one holds a lock of its own, and waits for the first.
    const middle = await open("service", `set app.tenant_id = '${db.tenantA}'`, "begin");
    await middle.client.query("select pg_advisory_xact_lock(1, 1)");
    const stuck = middle.client.query(lock());
    const last = await open("worker");
    const waits = last.client.query("select pg_advisory_xact_lock(1, 1)");
    await db.until(
      "select count(*) = 2 from pg_locks where not granted and pid = any ($1) and waitstart < clock_timestamp() - interval '300 ms'",
      [[middle.pid, last.pid]],
    );
    expect(await look()).toEqual([{ pid: root.pid, reason: "blocked others" }]);
    expect((await stuck).rowCount).toBe(1);
    await middle.client.query("commit");
    await waits;
    const [event] = await events();
    expect(event?.blocked).toHaveLength(2);
  });

  it.each(["service", "admin", "worker", "superuser"] as const)("never ends a session of %s", async (seat) => {
    await limits("200 milliseconds", "200 milliseconds");
    const blocker = await holder(seat);
    const { waits } = await victimOf(blocker);
    for (let n = 0; n < 3; n += 1) expect(await look()).toEqual([]);
    await blocker.client.query("commit");
    await waits;
    expect(await events()).toEqual([]);
  });

  it("never ends an admin or a superuser, even if its login is bound to a tenant", async () => {
    await limits("200 milliseconds", "200 milliseconds");
    const admin = new URL(db.urlOf("admin")).username;
    await db.query("insert into brainops.tenant_logins (login, tenant_id) values ($1, $2), (current_user, $2)", [
      admin,
      db.tenantA,
    ]);
    try {
      for (const seat of ["admin", "superuser"] as const) {
        const blocker = await holder(seat);
        const { waits } = await victimOf(blocker);
        expect(await look()).toEqual([]);
        await blocker.client.query("commit");
        await waits;
      }
    } finally {
      await db.query("delete from brainops.tenant_logins where login in ($1, current_user)", [admin]);
    }
  });

  it("ends a transaction that is too old: idle in repeatable read, with every limit of the login switched off", async () => {
    await limits("1 hour", "200 milliseconds");
    const old = await open(
      "tenantA",
      "set statement_timeout = 0",
      "set idle_in_transaction_session_timeout = 0",
      "begin isolation level repeatable read",
      "select count(*) from revenue_leads",
    );
    const outside = await open("tenantB");
    await db.until(
      "select xact_start < clock_timestamp() - interval '200 ms' as old from pg_stat_activity where pid = $1",
      [old.pid],
    );
    expect(await look()).toEqual([{ pid: old.pid, reason: "long transaction" }]);
    await gone(old.pid);
    expect(await events()).toMatchObject([{ pid: old.pid, reason: "long transaction", blocked: [] }]);
    expect((await outside.client.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
  });

  it("records a session once, whatever the number of workers", async () => {
    const blocker = await holder("tenantA");
    await victimOf(blocker);
    const lookers = await Promise.all(Array.from({ length: 4 }, () => open("worker")));
    const found = await Promise.all(lookers.map(async ({ client }) => (await client.query(GUARD)).rows.length));
    expect(found.reduce((sum, count) => sum + count, 0)).toBe(1);
    await gone(blocker.pid);
    expect(await events()).toHaveLength(1);
  });

  it("does not end a login of which brainops_system is not a member; doctor and migrate say so", async () => {
    await limits("200 milliseconds", "200 milliseconds");
    const login = new URL(db.urlOf("tenantB")).username;
    await db.query(`revoke ${login} from brainops_system`);
    const inspect = (): Promise<string> =>
      onServer(db.urlOf("admin"), async (client) =>
        (await logins(client)).map(({ state, detail }) => `${state} ${detail}`).join("\n"),
      );
    const old = await open("tenantB", "begin", "select 1");
    await db.until(
      "select xact_start < clock_timestamp() - interval '200 ms' as old from pg_stat_activity where pid = $1",
      [old.pid],
    );
    expect(await look()).toEqual([]);
    expect((await old.client.query("select 1 as one")).rows).toEqual([{ one: 1 }]);
    expect(await inspect()).toContain(`bad the session guard cannot end sessions of ${login}`);
    // Whoever lacks the right learns which logins are left.
    expect(await db.as("admin", "select login from brainops_internal.join_logins() as login")).toEqual([{ login }]);
    expect(await db.query("select from brainops_internal.join_logins()")).toEqual([]);
    expect(await inspect()).not.toContain(login);
    expect(await look()).toEqual([{ pid: old.pid, reason: "long transaction" }]);
  });

  it("works in a worker: it ends the session and logs it, without what the session ran", async () => {
    const lines: string[] = [];
    const log = createLog({ level: "warn", human: false });
    const warn = log.warn.bind(log);
    log.warn = ((...args: Parameters<typeof warn>) => void lines.push(JSON.stringify(args))) as typeof log.warn;
    const worker = await startTestWorker(db, null, { log });
    try {
      const blocker = await holder("tenantA");
      const victim = await open("worker", "set role brainops_worker", `set app.tenant_id = '${db.tenantA}'`);
      expect((await victim.client.query(lock())).rowCount).toBe(1);
      await db.until("select count(*) = 1 from brainops.session_events where pid = $1", [blocker.pid]);
      const reported = await onServer(db.urlOf("admin"), sessions);
      expect(reported).toMatchObject({ length: 1, 0: { state: "off", name: "ended sessions" } });
    } finally {
      await worker.stop();
    }
    expect(lines.filter((line) => line.includes("ended a session"))).toHaveLength(1);
    expect(lines.join("\n")).not.toContain("update lead_forms");
  });

  it("keeps its record bounded: at most 1,000 events a day and tenant, and none for ever", async () => {
    await db.query(
      `insert into brainops.session_events (tenant_id, login, pid, backend_start, reason, lasted, at)
       select $1, 'seed', n, now(), 'blocked others', '6 seconds', case when n > 999 then now() - interval '4 months' else now() end
       from generate_series(0, 1010) as n`,
      [db.tenantA],
    );
    const blocker = await holder("tenantA");
    await victimOf(blocker);
    expect(await look()).toEqual([]);
    await gone(blocker.pid);
    expect(await db.as("worker", "select brainops_internal.prune_session_events()")).toEqual([
      { prune_session_events: 11 },
    ]);
    expect(await events()).toHaveLength(1000);
  });
});

it("its limits and its record are for admins only", async () => {
  for (const seat of ["tenantA", "service", "anonymous"] as const) {
    for (const text of [
      "select * from brainops.session_events",
      "select * from brainops.blocking_sessions",
      "update brainops.settings set value = '1 year'",
      "select * from brainops_internal.guard_sessions()",
    ]) {
      await expect(db.as(seat, text)).rejects.toMatchObject({ code: "42501" });
    }
  }
  await expect(
    db.as("admin", "update brainops.settings set value = '0' where name = 'end_transactions_after'"),
  ).rejects.toMatchObject({ code: "23514" });
});

it("makes brainops_system no tenant, and its members no tenants", async () => {
  expect(await db.as("worker", "select brainops.current_tenant_id() as id")).toEqual([{ id: null }]);
  const login = new URL(db.urlOf("tenantA")).username;
  expect(
    await db.query(
      "select pg_has_role('brainops_system', $1::name, 'usage') as signals, pg_has_role($1::name, 'brainops_system', 'member') as back",
      [login],
    ),
  ).toEqual([{ signals: true, back: false }]);
});
