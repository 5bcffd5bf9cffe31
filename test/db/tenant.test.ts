// Transactions as a tenant: all or nothing, with and without pipelining.
import type pg from "pg";
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { createPool, isConnectionLost } from "../../src/db/pool.ts";
import { runAsTenant } from "../../src/db/tenant.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";
import { refusal } from "../support/refusal.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
  await db.query("create table notes (text text unique deferrable initially deferred)");
  await db.query("grant select, insert on notes to brainops_worker");
});

afterAll(() => db.close());

describe.each([{ pipeline: true }, { pipeline: false }])("with pipeline $pipeline", ({ pipeline }) => {
  let pool: pg.Pool;

  beforeAll(() => {
    pool = createPool({ connectionString: db.urlOf("worker"), applicationName: "test", max: 1, pipeline });
  });
  beforeEach(() => db.query("delete from notes"));
  afterAll(() => pool.end());

  const insert = { text: "insert into notes values ($1)", values: ["one"] };
  const count = { text: "select count(*)::int as n from notes", values: [] };
  const notes = (): Promise<unknown[]> => db.query("select text from notes");
  const pids = async (): Promise<[{ pid: number }]> => {
    const { rows } = await pool.query<{ pid: number }>("select pg_backend_pid() as pid");
    return rows as [{ pid: number }];
  };

  it("returns the results in order, as the tenant, and resets role and tenant afterwards", async () => {
    const who = {
      text: "select current_user::text as role, brainops.current_tenant_id() as tenant, $1 as n",
      values: ["1"],
    };
    const [first, second] = await runAsTenant(pool, db.tenantA, [who, insert]);
    expect(first?.rows).toEqual([{ role: "brainops_worker", tenant: db.tenantA, n: "1" }]);
    expect(second?.rowCount).toBe(1);
    expect(await notes()).toEqual([{ text: "one" }]);
    const after = "select current_user = session_user as self, brainops.current_tenant_id() as tenant";
    expect((await pool.query(after)).rows).toEqual([{ self: true, tenant: null }]);
  });

  it("rolls back if one statement fails, throws its error, and keeps the connection", async () => {
    const before = await pids();
    const broken = { text: "select 1 / $1::int", values: [0] };
    expect((await refusal(runAsTenant(pool, db.tenantA, [insert, broken, insert]))).code).toBe("22012");
    expect(await notes()).toEqual([]);
    expect((await runAsTenant(pool, db.tenantB, [count]))[0]?.rows).toEqual([{ n: 0 }]);
    expect(await pids()).toEqual(before);
  });

  it("rolls back if the commit itself is refused", async () => {
    const before = await pids();
    expect((await refusal(runAsTenant(pool, db.tenantA, [insert, insert]))).code).toBe("23505");
    expect(await notes()).toEqual([]);
    expect(await pids()).toEqual(before);
  });

  it.skipIf(!isServer)("discards a connection that is lost in between (needs server processes)", async () => {
    const [{ pid }] = await pids();
    const wait = { text: "select pg_sleep(60)", values: [] };
    const thrown = runAsTenant(pool, db.tenantA, [insert, wait, insert]).catch((error: unknown) => error);
    await db.until("select wait_event = 'PgSleep' as asleep from pg_stat_activity where pid = $1", [pid]);
    await db.query("select pg_terminate_backend($1)", [pid]);
    expect(await thrown).toSatisfy(isConnectionLost);
    expect(await notes()).toEqual([]);
    expect((await runAsTenant(pool, db.tenantA, [count]))[0]?.rows).toEqual([{ n: 0 }]);
    expect(await pids()).not.toEqual([{ pid }]);
  });
});
