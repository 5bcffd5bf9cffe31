// Time limits of our connections: the server's are shorter than the client's, on every connection.
import { readFile, glob } from "node:fs/promises";
import pg from "pg";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { limits } from "../../src/db/limits.ts";
import { createPool, isTimeLimit, isTransient, openClient } from "../../src/db/pool.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../support/database.ts";

let db: TestDatabase;

beforeAll(async () => {
  db = await createTestDatabase();
});

afterAll(() => db?.close());

const shown = `
  select
    current_setting('lock_timeout')::interval as lock,
    current_setting('statement_timeout')::interval as statement,
    current_setting('idle_in_transaction_session_timeout')::interval as idle`;
const inMs = `select extract(epoch from lock)::float8 * 1000 as "lockMs", extract(epoch from statement)::float8 * 1000 as "statementMs",
  extract(epoch from idle)::float8 * 1000 as "idleInTransactionMs" from (${shown}) as s`;

describe("the limits", () => {
  const { migration, ...bounded } = limits;

  it.each(Object.entries(bounded))(
    "of %s: a lock ends before a statement, and that before the client gives up",
    (_name, of) => {
      expect(of.lockMs).toBeGreaterThan(0);
      expect(of.lockMs).toBeLessThan(of.statementMs);
      expect(of.statementMs).toBeLessThan(of.queryMs);
    },
  );

  it("of migrations bound only locks: an index may take hours", () => {
    expect(migration).toMatchObject({ lockMs: 5000, statementMs: 0, queryMs: 0 });
  });

  it.each(Object.entries(limits))("of %s are in force on a connection and in a pool", async (_name, of) => {
    const { queryMs: _client, ...server } = of;
    const options = { connectionString: db.urlOf("worker"), applicationName: "test", limits: of };
    const client = await openClient(options);
    expect((await client.query(inMs)).rows).toEqual([server]);
    await client.end();
    const pool = createPool({ ...options, max: 1 });
    expect((await pool.query(inMs)).rows).toEqual([server]);
    await pool.end();
  });

  it("hold for every connection: only src/db/pool.ts creates clients and pools", async () => {
    const others: string[] = [];
    for await (const file of glob(["src/**/*.ts", "tasks/**/*.ts"])) {
      const text = await readFile(file, "utf8");
      if (
        /\b(?:new|extends)\s+pg\.(?:Client|Pool)\b|import\s*\{[^}]*\b(?:Client|Pool)\b[^}]*\}\s*from "pg"/.test(text)
      ) {
        others.push(file);
      }
    }
    expect(others).toEqual(["src/db/pool.ts"]);
  });
});

describe.skipIf(!isServer)("a query that takes too long (needs server processes)", () => {
  it.each([
    ["waits for a lock", "update tenants set name = name", { lockMs: 100, statementMs: 60_000 }, "55P03"],
    ["runs", "select pg_sleep(60)", { lockMs: 100, statementMs: 200 }, "57014"],
  ])("is ended by the server if it %s, and no backend goes on waiting", async (_name, text, some, code) => {
    const holder = await db.connect("superuser");
    await holder.query("begin; select from tenants for update");
    const applicationName = `limits ${code}`;
    const pool = createPool({
      connectionString: db.url,
      applicationName,
      max: 1,
      limits: { ...limits.engine, ...some },
    });
    for (let i = 0; i < 3; i += 1) {
      const error: unknown = await pool.query(text).catch((caught: unknown) => caught);
      expect(error).toMatchObject({ code });
      expect([isTimeLimit(error), isTransient(error)]).toEqual([true, true]);
    }
    await pool.end();
    await db.until("select not exists (select from pg_stat_activity where application_name = $1)", [applicationName]);
    await holder.query("rollback");
    await holder.end();
  });

  it("leaves no backend behind if the client gives up first or its process dies", async () => {
    const holder = await db.connect("superuser");
    await holder.query("begin; select from tenants for update");
    const of = { lockMs: 60_000, statementMs: 60_000, queryMs: 300, idleInTransactionMs: 60_000 };
    const client = await openClient({ connectionString: db.url, applicationName: "limits lost", limits: of });
    await expect(client.query("update tenants set name = name")).rejects.toThrow("Query read timeout");
    await db.until("select not exists (select from pg_stat_activity where application_name = 'limits lost')");
    await holder.query("rollback");
    await holder.end();
  });

  it("cannot be a pipelined transaction whose statements add up: Postgres 17 ends it before the client gives up", async () => {
    const [server] = await db.query<{ has: boolean }>(
      "select current_setting('transaction_timeout', true) is not null as has",
    );
    const pool = createPool({
      connectionString: db.url,
      applicationName: "limits",
      max: 1,
      pipeline: true,
      limits: limits.engine,
    });
    const { rows } = await pool.query("select current_setting('transaction_timeout', true) as value");
    expect(rows).toEqual([{ value: server?.has === true ? "7500ms" : null }]);
    await pool.end();
  });

  it("keeps the login's own settings from undercutting a migration", async () => {
    const login = decodeURIComponent(new URL(db.urlOf("worker")).username);
    await db.query(`alter role ${pg.escapeIdentifier(login)} set statement_timeout = '1s'`);
    const client = await openClient({
      connectionString: db.urlOf("worker"),
      applicationName: "test",
      limits: limits.migration,
    });
    expect((await client.query("show statement_timeout")).rows).toEqual([{ statement_timeout: "0" }]);
    await client.end();
    await db.query(`alter role ${pg.escapeIdentifier(login)} reset statement_timeout`);
  });
});
