// Numbered files: sql/NNNN-name.sql, and sql/after/NNNN-name.sql in a second run with tables of its own. Wraps
// @databases/pg-migrations, which takes no lock and does not report every failure (with four migrators at once a file
// was applied twice; with a file without an export nothing was applied, and the exit code was 0). So it runs only under
// the migrators' lock, and afterwards the files are compared with what the database records as applied (compare.ts).
import { join } from "node:path";
import migrations from "@databases/pg-migrations";
import type pg from "pg";
import { messageOf } from "../../errors.ts";
import { numberedNames } from "./files.ts";
import { isHeldUp, retryLocked } from "./lock.ts";
import { MigrationError, type Migration } from "./types.ts";

/** A folder of numbered files and the tables that record them. */
export interface NumberedSet {
  /** Prefix of each name in reports: empty, or after/. */
  readonly prefix: "" | "after/";
  readonly appliedTable: string;
  readonly versionTable: string;
  /** Pattern of the files' names, for the comment on the tables. */
  readonly holds: string;
}

/** Tables, types, constraints and indexes. */
export const schemaSet: NumberedSet = {
  prefix: "",
  appliedTable: "brainops.migrations_applied",
  versionTable: "brainops.migrations_version",
  holds: "sql/NNNN-name.sql",
};

/** Reference data, which may call functions. */
export const afterSet: NumberedSet = {
  prefix: "after/",
  appliedTable: "brainops.migrations_after_applied",
  versionTable: "brainops.migrations_after_version",
  holds: "sql/after/NNNN-name.sql",
};

export interface AppliedFile {
  readonly index: number;
  readonly name: string;
  readonly script: string;
}

/** The applied files as the database records them, by number; empty before the first run. */
export async function appliedFiles(client: pg.Client, { appliedTable }: NumberedSet): Promise<AppliedFile[]> {
  const { rows: exists } = await client.query<{ exists: boolean }>("select to_regclass($1) is not null as exists", [
    appliedTable,
  ]);
  if (exists[0]?.exists !== true) return [];
  const { rows } = await client.query<AppliedFile>(
    `select index, name, script from ${appliedTable} where not obsolete order by index, id`,
  );
  return rows;
}

/** Applies the new files, each in a transaction of its own; returns their paths below sql/. */
export async function applyNumbered(migration: Migration, set: NumberedSet): Promise<string[]> {
  const { client, directory, options } = migration;
  const folder = join(directory, set.prefix);
  if ((await numberedNames(folder)).length === 0) return [];
  const before = new Set((await appliedFiles(client, set)).map(({ name }) => name));
  await retryLocked(options, () => runPgMigrations(migration, set, folder));
  await client.query(
    `comment on table ${set.appliedTable} is 'Files ${set.holds} as brainops migrate applied them, with their text.';
     comment on table ${set.versionTable} is 'Format of ${set.appliedTable}; @databases/pg-migrations reads it.'`,
  );
  const applied = (await appliedFiles(client, set)).map(({ name }) => name);
  return applied.filter((name) => !before.has(name)).map((name) => `${set.prefix}${name}`);
}

async function runPgMigrations({ options }: Migration, set: NumberedSet, folder: string): Promise<void> {
  const connection = migrations.connect({
    connectionString: options.connectionString,
    applicationName: "brainops migrate",
    bigIntMode: "number",
  });
  let current = "";
  try {
    await migrations.applyMigrations({
      connection,
      migrationsDirectory: folder,
      versionTableName: set.versionTable,
      appliedMigrationsTableName: set.appliedTable,
      beforeOperation: async (operation) => {
        const name = "value" in operation ? `${set.prefix}${nameOf(operation.value)}` : "";
        if (name !== current) options.log?.(`applying ${name}`);
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
