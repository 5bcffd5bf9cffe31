// Repeatable files: functions/, tables/ and views/ are applied again when their text changed, or when something that
// they create was dropped. Functions and views are applied as a whole: nobody has to keep them in the order of their
// dependencies, and changes that were made by hand in the database are reverted. Everything runs on the connection that
// holds the migrators' lock: a migrator that is killed loses its lock and its transaction together, so two migrators
// never replace the same function at once ("tuple concurrently updated").
import type pg from "pg";
import { messageOf } from "../../errors.ts";
import { catalogObjects } from "./catalog.ts";
import { appliedDefinitionsIn } from "./definitions.ts";
import { sqlFiles, type SqlFile } from "./files.ts";
import { isHeldUp, retryLocked } from "./lock.ts";
import { MigrationError, type Migration } from "./types.ts";

export interface RepeatableSet {
  readonly folder: "functions" | "tables" | "views";
  /** True: if one file differs, all files are applied in one transaction. False: each file that differs has a transaction of its own. */
  readonly together: boolean;
  /** Settings of the transaction, in addition to lock_timeout. */
  readonly settings: Readonly<Record<string, string>>;
  /** A statement that checks what the transaction applied, before it is committed. */
  readonly check?: string;
}

// The first attempts give up before deadlock_timeout (1 s by default): if this transaction and a client's wait for each
// other, this one is retried, and Postgres does not end the client's. If that never succeeds, it waits longer.
const SHORT_ATTEMPTS = 10;
const lockTimeout = (attempt: number): string => (attempt <= SHORT_ATTEMPTS ? "500ms" : "2s");

// Applied before all other files of the set, because it drops signatures that they replace.
const RETIRED = "functions/retired.sql";

// What Postgres checks of a function when it is created: the syntax of its body and, in SQL, the names in it. Functions
// that this transaction did not write, such as one that somebody added by hand, are left alone.
const checkBodies = `
  do $$
  declare
    v_function record;
  begin
    perform set_config('check_function_bodies', 'on', true);
    for v_function in
      select p.oid, l.lanvalidator::regproc as validator
      from pg_proc as p
      inner join pg_language as l on l.oid = p.prolang
      where p.xmin = pg_current_xact_id()::xid and l.lanname in ('sql', 'plpgsql')
      order by p.oid
    loop
      begin
        execute format('select %s(%s)', v_function.validator, v_function.oid);
      exception
        when others then
          raise exception '%: %', v_function.oid::regprocedure, sqlerrm using errcode = sqlstate;
      end;
    end loop;
  end
  $$`;

// Bodies are checked once all functions are there, so that they may call one another in any order.
export const functionSet: RepeatableSet = {
  folder: "functions",
  together: true,
  settings: { check_function_bodies: "off" },
  check: checkBodies,
};

// Not as a whole: `create or replace trigger` blocks writes to its table.
export const tableSet: RepeatableSet = { folder: "tables", together: false, settings: {} };

// As a whole, because views select from one another: dropping one drops the views that depend on it.
export const viewSet: RepeatableSet = { folder: "views", together: true, settings: {} };

export const repeatableSets = [functionSet, tableSet, viewSet] as const;

/** Path and checksum of each applied file of one set; empty before the first run. */
export async function recordedFiles(
  client: pg.Client,
  { folder }: RepeatableSet,
): Promise<ReadonlyMap<string, string>> {
  const { rows: exists } = await client.query<{ exists: boolean }>(
    "select to_regclass('brainops.migrations_repeatable') is not null as exists",
  );
  if (exists[0]?.exists !== true) return new Map();
  const { rows } = await client.query<{ path: string; sha256: string }>(
    "select path, sha256 from brainops.migrations_repeatable where starts_with(path, $1)",
    [`${folder}/`],
  );
  return new Map(rows.map(({ path, sha256 }) => [path, sha256]));
}

/** How a set differs from what was applied. */
export interface RepeatableState {
  /** Never applied. */
  readonly added: readonly SqlFile[];
  /** Applied with another text. */
  readonly edited: readonly SqlFile[];
  /** Applied, but objects that the file creates no longer exist: path -> their names in the catalog. */
  readonly dropped: ReadonlyMap<string, readonly string[]>;
  /** Recorded paths whose files no longer exist. */
  readonly gone: readonly string[];
}

export async function stateOf(
  client: pg.Client,
  set: RepeatableSet,
  files: readonly SqlFile[],
): Promise<RepeatableState> {
  const recorded = await recordedFiles(client, set);
  const catalog = new Set(await catalogObjects(client));
  const applied = files.filter(({ path, sha256 }) => recorded.get(path) === sha256);
  const dropped = applied.map(({ path, text }): [string, string[]] => [
    path,
    appliedDefinitionsIn(text).filter((name) => !catalog.has(name)),
  ]);
  return {
    added: files.filter(({ path }) => !recorded.has(path)),
    edited: files.filter(({ path, sha256 }) => recorded.has(path) && recorded.get(path) !== sha256),
    dropped: new Map(dropped.filter(([, names]) => names.length > 0)),
    gone: [...recorded.keys()].filter((path) => !files.some((file) => file.path === path)),
  };
}

/** One transaction: the files that it applies, and the recorded paths that it removes because their files no longer exist. */
interface Unit {
  readonly name: string;
  readonly files: readonly SqlFile[];
  readonly gone: readonly string[];
}

/** Applies the files that changed; returns their paths below sql/, or one line for a set that is applied as a whole. */
export async function applyRepeatable(migration: Migration, set: RepeatableSet): Promise<string[]> {
  const { client, directory, options } = migration;
  const files = (await sqlFiles(directory, set.folder)).toSorted(
    (a, b) => Number(b.path === RETIRED) - Number(a.path === RETIRED),
  );
  const applied: string[] = [];
  for (const unit of unitsOf(set, files, await stateOf(client, set, files))) {
    if (unit.files.length > 0) options.log?.(`applying ${unit.name}`);
    await retryLocked(options, (attempt) => applyUnit(migration, set, unit, attempt));
    if (unit.files.length > 0) applied.push(unit.name);
  }
  return applied;
}

function unitsOf(set: RepeatableSet, files: readonly SqlFile[], state: RepeatableState): Unit[] {
  const { added, edited, dropped, gone } = state;
  const changed = files.filter((file) => added.includes(file) || edited.includes(file) || dropped.has(file.path));
  if (changed.length + gone.length === 0) return [];
  if (set.together) return [{ name: `${set.folder} (${files.length} files)`, files, gone }];
  const units = changed.map((file): Unit => ({ name: file.path, files: [file], gone: [] }));
  return gone.length === 0 ? units : [...units, { name: gone.join(", "), files: [], gone }];
}

async function applyUnit(
  { client, release }: Migration,
  set: RepeatableSet,
  unit: Unit,
  attempt: number,
): Promise<void> {
  let current = unit.name;
  try {
    await client.query("begin");
    for (const [name, value] of Object.entries({ lock_timeout: lockTimeout(attempt), ...set.settings })) {
      await client.query("select set_config($1, $2, true)", [name, value]);
    }
    for (const { path, text } of unit.files) {
      current = path;
      await client.query(text);
    }
    current = unit.name;
    if (set.check !== undefined) await client.query(set.check);
    await record(client, release, unit);
    await client.query("commit");
  } catch (error) {
    // Fails if the connection is lost; then Postgres has rolled back already.
    await client.query("rollback").catch(() => {});
    if (isHeldUp(error)) throw error;
    throw new MigrationError(`${current}: ${messageOf(error)}`, { cause: error });
  }
}

async function record(client: pg.Client, release: string, { files, gone }: Unit): Promise<void> {
  await client.query("delete from brainops.migrations_repeatable where path = any ($1)", [gone]);
  await client.query(
    `insert into brainops.migrations_repeatable (path, sha256, release, applied_at)
     select path, sha256, $3, now() from unnest($1::text[], $2::text[]) as f (path, sha256)
     on conflict (path) do update
     set sha256 = excluded.sha256, release = excluded.release, applied_at = excluded.applied_at`,
    [files.map(({ path }) => path), files.map(({ sha256 }) => sha256), release],
  );
}
