// `brainops migrate`: graphile-worker's schema, then ours. Wraps @databases/pg-migrations, which
// takes no lock and drops part of its result (facts: four starters at once applied a file twice;
// a file without an export ended with exit code 0 and nothing applied). So: one migrator at a time,
// and afterwards the files are compared with what the database says was applied.
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import migrations from "@databases/pg-migrations";
import { runMigrations } from "graphile-worker";
import pg from "pg";
import { codeOf, messageOf } from "../errors.ts";
import { quietLogger } from "../telemetry/graphileLogger.ts";
import { createPool } from "./pool.ts";

/** sql/ of this installation, beside src/ (or dist/src/). */
export const migrationsDirectory = fileURLToPath(new URL("../../sql", import.meta.url));

const APPLIED_TABLE = "brainops.migrations_applied";
const VERSION_TABLE = "brainops.migrations_version";
// Any number will do, as long as every version of this program uses the same.
const LOCK_KEY = 7_251_020_241;

export interface MigrateOptions {
  readonly connectionString: string;
  /** Folder with NNNN-name.sql, _bootstrap.sql and concurrent/. @default sql/ of this installation */
  readonly directory?: string;
  /** How long to wait for another migrator. @default 300,000 ms */
  readonly lockWaitMs?: number;
  /** How often to try a file again whose lock_timeout ran out. @default 10 */
  readonly lockRetries?: number;
  readonly log?: (line: string) => void;
}

export interface MigrateReport {
  /** Files applied by this call, in order. */
  readonly applied: readonly string[];
}

export class MigrationError extends Error {
  override name = "MigrationError";
}

/** Brings the database up to date. Throws a MigrationError that names the file; returning means that all is applied. */
export async function migrate(options: MigrateOptions): Promise<MigrateReport> {
  const directory = options.directory ?? migrationsDirectory;
  const client = new pg.Client({ connectionString: options.connectionString, application_name: "brainops migrate" });
  client.on("error", () => {});
  await client.connect();
  try {
    await takeLock(client, options);
    await refuseOldServer(client);
    await client.query(await readFile(join(directory, "_bootstrap.sql"), "utf8"));
    await migrateGraphileWorker(client, options);
    const before = await appliedFiles(client);
    await compareWithFiles(client, directory, "before");
    await retryLocked(options, () => applyFiles(options.connectionString, directory, options.log));
    await compareWithFiles(client, directory, "after");
    const concurrent = await applyConcurrent(client, directory, options);
    const known = new Set(before.map((file) => file.name));
    const applied = (await appliedFiles(client)).map((file) => file.name).filter((name) => !known.has(name));
    return { applied: [...applied, ...concurrent] };
  } finally {
    await client.end();
  }
}

/**
 * Waits for the lock by asking again and again. A blocking pg_advisory_lock would hold a snapshot
 * that `create index concurrently` of the other migrator waits for: a deadlock that leaves an
 * invalid index behind.
 */
async function takeLock(client: pg.Client, options: MigrateOptions): Promise<void> {
  const deadline = Date.now() + (options.lockWaitMs ?? 300_000);
  let told = false;
  for (;;) {
    const { rows } = await client.query<{ locked: boolean }>("select pg_try_advisory_lock($1) as locked", [LOCK_KEY]);
    if (rows[0]?.locked === true) return;
    if (Date.now() > deadline) {
      throw new MigrationError("Another migrator has held the lock for too long. End it, then run migrate again.");
    }
    if (!told) options.log?.("another migrator is at work; waiting for it");
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

async function refuseOldServer(client: pg.Client): Promise<void> {
  const complaint = await serverComplaint(client);
  if (complaint !== null) throw new MigrationError(complaint);
}

/** Why this server can't be used, or null. */
export async function serverComplaint(client: pg.Client): Promise<string | null> {
  const { rows } = await client.query<{ number: number; version: string }>(
    "select current_setting('server_version_num')::int as number, current_setting('server_version') as version",
  );
  const number = rows[0]?.number ?? 0;
  // Fixes for row level security in the planner (CVE-2025-8713 and older).
  const fixed: Record<number, number> = { 15: 150_014, 16: 160_010, 17: 170_006 };
  const least = fixed[Math.floor(number / 10_000)] ?? 150_014;
  if (number >= least) return null;
  return `Postgres ${rows[0]?.version} is too old: row level security needs 15.14, 16.10, 17.6 or newer (CVE-2025-8713).`;
}

/** graphile-worker's schema belongs to brainops_system, so that the definer functions may add jobs. */
async function migrateGraphileWorker(client: pg.Client, options: MigrateOptions): Promise<void> {
  const { rows } = await client.query<{ name: string }>("select quote_ident(current_database()) as name");
  const database = rows[0]?.name ?? "";
  const pool = createPool({
    connectionString: options.connectionString,
    applicationName: "brainops migrate",
    max: 1,
    role: "brainops_system",
  });
  // Only for the installation: brainops_system owns functions that tenants' inserts run through.
  await client.query(`grant create on database ${database} to brainops_system`);
  try {
    await runMigrations({ pgPool: pool, logger: quietLogger() });
  } catch (error) {
    throw new MigrationError(`graphile-worker's own schema could not be installed: ${messageOf(error)}`, {
      cause: error,
    });
  } finally {
    await pool.end();
    await client.query(`revoke create on database ${database} from brainops_system`);
  }
}

async function applyFiles(connectionString: string, directory: string, log?: (line: string) => void): Promise<void> {
  const connection = migrations.connect({
    connectionString,
    applicationName: "brainops migrate",
    bigIntMode: "number",
  });
  let current = "";
  try {
    await migrations.applyMigrations({
      connection,
      migrationsDirectory: directory,
      versionTableName: VERSION_TABLE,
      appliedMigrationsTableName: APPLIED_TABLE,
      beforeOperation: async (operation) => {
        const name = "value" in operation ? nameOf(operation.value) : "";
        if (name !== current) log?.(`applying ${name}`);
        current = name;
      },
    });
  } catch (error) {
    if (isHeldUp(error)) throw error;
    const where = current === "" ? "" : `${current}: `;
    throw new MigrationError(`${where}${messageOf(error)}`, { cause: error });
  } finally {
    await connection.dispose();
  }
}

function nameOf(value: unknown): string {
  return typeof value === "object" && value !== null && "name" in value ? String(value.name) : "";
}

/** Lock timeout, or deadlock: who waited for longer than its lock_timeout, or crosswise with somebody. */
function isHeldUp(error: unknown): boolean {
  return ["55P03", "40P01"].includes(codeOf(error) ?? "");
}

/** Runs again what gave up on a lock, so that readers were never blocked for longer than lock_timeout. */
async function retryLocked(options: MigrateOptions, run: () => Promise<void>): Promise<void> {
  const most = options.lockRetries ?? 10;
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await run();
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

interface AppliedFile {
  readonly index: number;
  readonly name: string;
  readonly script: string;
}

async function appliedFiles(client: pg.Client): Promise<AppliedFile[]> {
  const { rows: exists } = await client.query<{ exists: boolean }>("select to_regclass($1) is not null as exists", [
    APPLIED_TABLE,
  ]);
  if (exists[0]?.exists !== true) return [];
  const { rows } = await client.query<AppliedFile>(
    `select index, name, script from ${APPLIED_TABLE} where not obsolete order by index, id`,
  );
  return rows;
}

/**
 * The files must be exactly what was applied: by number, name and text, each once. Before the run
 * there may be new ones, with numbers above the last.
 */
async function compareWithFiles(client: pg.Client, directory: string, when: "before" | "after"): Promise<void> {
  const differences = await migrationDifferences(client, directory, when);
  if (differences.length > 0) {
    throw new MigrationError(
      `The migrations in ${directory} are not what the database has:\n  ${differences.join("\n  ")}\n` +
        "Migrations are never changed once applied: restore the files, and write a new one for what should change.",
    );
  }
}

/** Where the files and what was applied differ, a sentence each; empty when the database is up to date (or, "before", may become so). */
export async function migrationDifferences(
  client: pg.Client,
  directory: string = migrationsDirectory,
  when: "before" | "after" = "after",
): Promise<string[]> {
  const names = (await readdir(directory)).filter((name) => /^\d+-.*\.sql$/.test(name)).toSorted();
  const applied = await appliedFiles(client);
  const last = applied.at(-1)?.index ?? 0;
  const differences: string[] = [];
  for (const name of names) {
    const index = Number.parseInt(name, 10);
    const script = await readFile(join(directory, name), "utf8");
    const rows = applied.filter((row) => row.index === index);
    if (rows.length === 0) {
      if (when === "after") differences.push(`${name} was not applied`);
      else if (index < last) differences.push(`${name} is new, but its number is below ${last}, which is applied`);
    } else if (rows.length > 1) differences.push(`${name} is recorded ${rows.length} times`);
    else if (rows[0]?.name !== name) differences.push(`${rows[0]?.name} was renamed to ${name} after it was applied`);
    else if (rows[0]?.script !== script) differences.push(`${name} was edited after it was applied`);
  }
  for (const row of applied) {
    if (!names.some((name) => Number.parseInt(name, 10) === row.index)) differences.push(`${row.name} is gone`);
  }
  return differences;
}

/**
 * Files in concurrent/ hold one `create index concurrently if not exists …` each. They run outside
 * a transaction, once; an invalid index that an earlier try left behind is dropped first.
 */
async function applyConcurrent(client: pg.Client, directory: string, options: MigrateOptions): Promise<string[]> {
  const folder = join(directory, "concurrent");
  const names = (await readdir(folder).catch(() => [])).filter((name) => name.endsWith(".sql")).toSorted();
  await client.query(
    "create table if not exists brainops.concurrent_migrations (name text primary key, applied_at timestamptz not null default now())",
  );
  const { rows } = await client.query<{ name: string }>("select name from brainops.concurrent_migrations");
  const done = new Set(rows.map((row) => row.name));
  const applied: string[] = [];
  for (const name of names) {
    if (done.has(name)) continue;
    const script = await readFile(join(folder, name), "utf8");
    const index = /create\s+(?:unique\s+)?index\s+concurrently\s+if\s+not\s+exists\s+([\w.]+)/i.exec(script)?.[1];
    if (index === undefined) {
      throw new MigrationError(`${name}: expected one "create index concurrently if not exists name on …"`);
    }
    options.log?.(`applying concurrent/${name}`);
    await retryLocked(options, () => buildIndex(client, name, index, script));
    applied.push(`concurrent/${name}`);
  }
  return applied;
}

async function buildIndex(client: pg.Client, name: string, index: string, script: string): Promise<void> {
  const isValid = async (): Promise<boolean | undefined> => {
    const { rows } = await client.query<{ valid: boolean }>(
      "select i.indisvalid as valid from pg_index as i inner join pg_class as c on c.oid = i.indexrelid where c.relname = $1",
      [index.split(".").at(-1)],
    );
    return rows[0]?.valid;
  };
  try {
    await client.query("set lock_timeout = '5s'");
    if ((await isValid()) === false) await client.query(`drop index concurrently if exists ${index}`);
    await client.query(script);
    if ((await isValid()) !== true) throw new Error(`index ${index} is not valid`);
    await client.query("insert into brainops.concurrent_migrations (name) values ($1) on conflict do nothing", [name]);
  } catch (error) {
    if (isHeldUp(error)) throw error;
    throw new MigrationError(`concurrent/${name}: ${messageOf(error)}`, { cause: error });
  } finally {
    await client.query("reset lock_timeout");
  }
}
