// A database for one test file, and its seats: tenant A, tenant B, worker, service, admin, anonymous.
// Every seat is a login of its own, so tests have exactly the rights that users have.
import { readFile } from "node:fs/promises";
import pg from "pg";
import { inject } from "vitest";
import { startEmbedded } from "../../src/db/embedded/index.ts";
import { onServer } from "./sql.ts";

/** Whether Postgres is a server with processes; tests of kills, restarts and races need one. */
export const isServer = inject("postgres").kind === "server";

export type Seat = "tenantA" | "tenantB" | "worker" | "service" | "admin" | "anonymous";

export interface TestDatabase {
  /** Connection URL of the superuser, for what a DBA does and for inspecting internals. */
  readonly url: string;
  readonly tenantA: string;
  readonly tenantB: string;
  /** Connection URL of a seat. */
  urlOf(seat: Seat): string;
  /** Runs one statement as superuser. */
  query<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Runs one statement as the seat, in a connection of its own. */
  as<Row extends pg.QueryResultRow>(seat: Seat, text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** Opens a connection as the seat; it is closed with the database. */
  connect(seat: Seat | "superuser"): Promise<pg.Client>;
  /**
   * Resolves when every column of the query's first row is true. Repeats the query at each NOTIFY of the
   * engine, and every 100 ms for changes without one. Rejects after timeoutMs with the last row.
   */
  until(text: string, values?: readonly unknown[], timeoutMs?: number): Promise<void>;
  /** Sets the engine's clock: brainops.now() is real time plus the interval. */
  setClock(interval: string): Promise<void>;
  close(): Promise<void>;
}

const PASSWORD = "a-password-of-tests";

/** Clones the migrated template database. Must be closed in afterAll. */
export async function createTestDatabase(): Promise<TestDatabase> {
  const provided = inject("postgres");
  const suffix = `${process.pid}_${Math.random().toString(36).slice(2, 8)}`;
  if (provided.kind === "server") {
    const name = `brainops_test_${suffix}`;
    await onServer(provided.url, (client) => client.query(`create database ${name} template ${provided.template}`));
    const url = new URL(provided.url);
    url.pathname = `/${name}`;
    return prepare(url.href, suffix, () =>
      onServer(provided.url, async (client) => {
        await client.query(`drop database if exists ${name} with (force)`);
        for (const role of Object.values(loginsOf(suffix))) await client.query(`drop role if exists ${role}`);
      }),
    );
  }
  const snapshot = new Blob([await readFile(provided.snapshot)]);
  const embedded = await startEmbedded({ dataDir: "memory", loadDataDir: snapshot, auth: "trust" });
  return prepare(embedded.url, suffix, () => embedded.close());
}

function loginsOf(suffix: string): Record<Seat, string> {
  return {
    tenantA: `t_a_${suffix}`,
    tenantB: `t_b_${suffix}`,
    worker: `t_worker_${suffix}`,
    service: `t_service_${suffix}`,
    admin: `t_admin_${suffix}`,
    anonymous: `t_nobody_${suffix}`,
  };
}

async function prepare(url: string, suffix: string, drop: () => Promise<void>): Promise<TestDatabase> {
  const logins = loginsOf(suffix);
  const clients = new Set<pg.Client>();
  const superuser = new pg.Pool({ connectionString: url, max: 3 });
  superuser.on("error", () => {});

  const { rows } = await superuser.query<{ a: string; b: string }>(
    "select brainops.create_tenant('tenant-a', 'Tenant A', 'America/Denver') as a, brainops.create_tenant('tenant-b', 'Tenant B') as b",
  );
  await superuser.query("select brainops.create_login('tenant-a', $1, $2)", [logins.tenantA, PASSWORD]);
  await superuser.query("select brainops.create_login('tenant-b', $1, $2)", [logins.tenantB, PASSWORD]);
  const granted = {
    worker: "brainops_system, brainops_service, brainops_worker",
    service: "brainops_service",
    admin: "brainops_admin",
  };
  for (const [seat, roles] of Object.entries(granted)) {
    await superuser.query(`create role ${logins[seat as Seat]} login password '${PASSWORD}' in role ${roles}`);
  }
  await superuser.query(`create role ${logins.anonymous} login password '${PASSWORD}'`);

  const urlOf = (seat: Seat): string => {
    const changed = new URL(url);
    changed.username = logins[seat];
    changed.password = PASSWORD;
    return changed.href;
  };
  const query = async <Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []): Promise<Row[]> =>
    (await superuser.query<Row>(text, [...values])).rows;

  return {
    url,
    tenantA: rows[0]?.a ?? "",
    tenantB: rows[0]?.b ?? "",
    urlOf,
    query,
    as: (seat, text, values = []) =>
      onServer(urlOf(seat), async (client) => (await client.query(text, [...values])).rows),
    connect: async (seat) => {
      const client = new pg.Client({ connectionString: seat === "superuser" ? url : urlOf(seat) });
      client.on("error", () => {});
      await client.connect();
      clients.add(client);
      return client;
    },
    until: (text, values = [], timeoutMs = 20_000) => until(url, text, values, timeoutMs),
    setClock: async (interval) => {
      await query(
        `create or replace function brainops.now() returns timestamptz language sql stable parallel safe
         as $$ select pg_catalog.now() + interval '${interval}' $$`,
      );
    },
    close: async () => {
      await Promise.allSettled([...clients].map((client) => client.end()));
      await superuser.end();
      await drop();
    },
  };
}

async function until(url: string, text: string, values: readonly unknown[], timeoutMs: number): Promise<void> {
  await onServer(url, async (client) => {
    let wake = (): void => {};
    client.on("notification", () => wake());
    await client.query("listen brainops_jobs");
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      const { rows } = await client.query<Record<string, unknown>>(text, [...values]);
      const row = rows[0];
      if (row !== undefined && Object.values(row).every((value) => value === true)) return;
      if (Date.now() > deadline) {
        throw new Error(`did not come true within ${timeoutMs} ms: ${text}\nlast row: ${JSON.stringify(row)}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 100);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  });
}
