// Locks: only one migrator runs at a time, and steps are retried while their tables are locked.
import type pg from "pg";
import { codeOf } from "../../errors.ts";
import { MigrationError, type MigrateOptions } from "./types.ts";

// Exists before everything else: two migrators may start on an empty database.
const table = `
create schema if not exists brainops;

create table if not exists brainops.migrations_lock (
  only_row boolean primary key default true,
  backend_pid int,
  login_id oid,
  constraint migrations_lock_one_row check (only_row)
);

comment on table brainops.migrations_lock is
  'One row: the connection of the migrator that is at work, or was at work last. The next one waits for as long as that connection is open.';

insert into brainops.migrations_lock default values on conflict do nothing;
`;

/**
 * Waits until no other migrator is connected, and then writes this connection into the row of brainops.migrations_lock.
 * The row is free when the connection in it is gone, so a migrator that dies holds up nobody. Clients have no rights on the
 * table, so they cannot lock the row; an advisory lock is open to every login.
 *
 * Polls every 200 ms, and keeps no transaction open, neither while it waits nor while it holds the lock: the other
 * migrator's `create index concurrently` waits for every snapshot, which would be a deadlock that leaves an invalid index
 * behind, and an open transaction would keep vacuum from removing rows.
 *
 * `beforeCreating` runs before the table is created, that is before this database is changed for the first time.
 */
export async function takeLock(
  client: pg.Client,
  options: MigrateOptions,
  beforeCreating: () => Promise<void>,
): Promise<void> {
  const deadline = Date.now() + (options.lockWaitMs ?? 300_000);
  let logged = false;
  for (;;) {
    const holder = (await exists(client)) ? await takeRow(client) : await createTable(client, beforeCreating);
    if (holder === null) return;
    if (Date.now() > deadline) {
      throw new MigrationError(
        `Another migrator (${holder}) has been connected for too long. Stop it, then run migrate again.`,
      );
    }
    if (!logged) options.log?.("another migrator is running; waiting for it");
    logged = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function exists(client: pg.Client): Promise<boolean> {
  const { rows } = await client.query<{ exists: boolean }>(
    "select exists (select from pg_class where oid = to_regclass('brainops.migrations_lock')) as exists",
  );
  return rows[0]?.exists === true;
}

/** Who holds the lock: another migrator, if it creates the table at the same moment. Otherwise the row is asked next. */
async function createTable(client: pg.Client, beforeCreating: () => Promise<void>): Promise<string | null> {
  await beforeCreating();
  try {
    await client.query(table);
  } catch (error) {
    // `if not exists` looks before the other one has committed: unique_violation, duplicate_schema, duplicate_table, or
    // "tuple concurrently updated".
    if (!["23505", "42P06", "42P07", "XX000"].includes(codeOf(error) ?? "")) throw error;
  }
  return takeRow(client);
}

/**
 * Null if this connection has the lock now, else the connection that has it. The row is locked only for the moment between
 * two statements: pg_stat_activity must be read after the row, because a transaction reads it only once.
 */
async function takeRow(client: pg.Client): Promise<string | null> {
  await client.query("begin");
  try {
    const { rows } = await client.query<{ taken: boolean }>(
      "select true as taken from brainops.migrations_lock for no key update skip locked",
    );
    if (rows.length === 0) return "which starts at this moment";
    // With the login, because a number may be used again by another backend, of a client. Both columns are visible to
    // every role. On the built-in Postgres all connections are one backend.
    const { rows: holders } = await client.query<{ holder: string }>(
      `select format('server process %s of login %s', a.pid, a.usename) as holder
       from brainops.migrations_lock as m
       inner join pg_stat_activity as a on a.pid = m.backend_pid and a.usesysid = m.login_id
       where a.datname = current_database() and a.pid <> pg_backend_pid()`,
    );
    if (holders[0] !== undefined) return holders[0].holder;
    await client.query(
      `update brainops.migrations_lock
       set backend_pid = pg_backend_pid(), login_id = (select usesysid from pg_stat_activity where pid = pg_backend_pid())`,
    );
    return null;
  } finally {
    await client.query("commit");
  }
}

/** Empties the row, so that a later backend with the same number and login is not taken for this migrator. */
export async function releaseLock(client: pg.Client): Promise<void> {
  await client.query(
    "update brainops.migrations_lock set backend_pid = null, login_id = null where backend_pid = pg_backend_pid()",
  );
}

/** Whether a statement failed because of a lock: lock timeout or deadlock. It may succeed when it is retried. */
export function isHeldUp(error: unknown): boolean {
  return ["55P03", "40P01"].includes(codeOf(error) ?? "");
}

/**
 * Retries a step after a lock timeout. Thanks to the retries its lock_timeout can be short, and readers are never blocked
 * for longer than that. `run` gets the number of the attempt, from 1.
 */
export async function retryLocked<T>(options: MigrateOptions, run: (attempt: number) => Promise<T>): Promise<T> {
  const most = options.lockRetries ?? 20;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run(attempt);
    } catch (error) {
      if (!isHeldUp(error)) throw error;
      if (attempt >= most) {
        throw new MigrationError(
          `A table was locked by others ${most} times in a row. Find them in pg_locks, then run migrate again.`,
          { cause: error },
        );
      }
      options.log?.(`a table is locked by others; trying again (${attempt} of ${most})`);
      await new Promise((resolve) => setTimeout(resolve, 250 * attempt));
    }
  }
}
