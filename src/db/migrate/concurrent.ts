// sql/concurrent/: indexes on large tables. Each file holds one `create index concurrently if not exists …`, which
// cannot run in a transaction. It runs once; an invalid index that an earlier attempt left behind is dropped first.
import type pg from "pg";
import { messageOf } from "../../errors.ts";
import { sqlFiles, type SqlFile } from "./files.ts";
import { isHeldUp, retryLocked } from "./lock.ts";
import { MigrationError, type Migration } from "./types.ts";

/** Builds the new indexes; returns their files' paths below sql/. */
export async function applyConcurrent({ client, directory, options }: Migration): Promise<string[]> {
  const files = await indexesToBuild(client, directory);
  for (const file of files) {
    const index = indexOf(file);
    options.log?.(`applying ${file.path}`);
    await retryLocked(options, () => buildIndex(client, file, index));
  }
  return files.map(({ path }) => path);
}

/** The files that were not applied yet. */
export async function indexesToBuild(client: pg.Client, directory: string): Promise<SqlFile[]> {
  const { rows } = await client.query<{ name: string }>("select name from brainops.concurrent_migrations");
  const done = new Set(rows.map(({ name }) => name));
  return (await sqlFiles(directory, "concurrent")).filter((file) => !done.has(nameOf(file)));
}

function nameOf({ path }: SqlFile): string {
  return path.slice("concurrent/".length);
}

function indexOf(file: SqlFile): string {
  const found = /create\s+(?:unique\s+)?index\s+concurrently\s+if\s+not\s+exists\s+([\w.]+)/i.exec(file.text)?.[1];
  if (found !== undefined) return found;
  throw new MigrationError(`${nameOf(file)}: expected one "create index concurrently if not exists name on …"`);
}

async function buildIndex(client: pg.Client, file: SqlFile, index: string): Promise<void> {
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
    await client.query(file.text);
    if ((await isValid()) !== true) throw new Error(`index ${index} is not valid`);
    await client.query("insert into brainops.concurrent_migrations (name) values ($1) on conflict do nothing", [
      nameOf(file),
    ]);
  } catch (error) {
    if (isHeldUp(error)) throw error;
    throw new MigrationError(`${file.path}: ${messageOf(error)}`, { cause: error });
  } finally {
    await client.query("reset lock_timeout");
  }
}
