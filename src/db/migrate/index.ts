// `brainops migrate`: brings a database up to date, in one fixed order, one migrator at a time. Numbered files change
// tables and are applied once (numbered.ts); functions, triggers and views are applied whenever their text changed
// (repeatable.ts); reference data comes after the functions that it calls, and indexes on large tables come last,
// outside a transaction (concurrent.ts).
import { version } from "../../version.ts";
import { limits } from "../limits.ts";
import { openClient } from "../pool.ts";
import { bootstrap } from "./bookkeeping.ts";
import { compareWithFiles } from "./compare.ts";
import { applyConcurrent } from "./concurrent.ts";
import { migrationsDirectory } from "./files.ts";
import { refuseForeignTables } from "./foreignTables.ts";
import { migrateGraphileWorker } from "./graphile.ts";
import { releaseLock, takeLock } from "./lock.ts";
import { afterSet, applyNumbered, schemaSet } from "./numbered.ts";
import { applyRepeatable, functionSet, tableSet, viewSet } from "./repeatable.ts";
import { recordRelease, refuseLowerRelease } from "./release.ts";
import { settleRights } from "./rights.ts";
import { refuseOldServer } from "./server.ts";
import type { MigrateOptions, MigrateReport, Migration } from "./types.ts";

export { compareReleases } from "./compareReleases.ts";
export { migrationDifferences } from "./compare.ts";
export { migrationsDirectory } from "./files.ts";
export { ForeignTablesError } from "./foreignTables.ts";
export { orphans } from "./orphans.ts";
export { ProgramTooOldError, releaseProblem, storedRelease } from "./release.ts";
export { serverComplaint } from "./server.ts";
export { MigrationError, type MigrateOptions, type MigrateReport } from "./types.ts";

/** Brings the database up to date. Throws a MigrationError that names the file that failed. When it returns, everything is applied. */
export async function migrate(options: MigrateOptions): Promise<MigrateReport> {
  const client = await openClient({
    connectionString: options.connectionString,
    applicationName: "brainops migrate",
    limits: limits.migration,
    // This connection holds the lock, and is idle while a numbered file runs on another one.
    settings: { idle_session_timeout: "0" },
  });
  try {
    const { directory = migrationsDirectory, release = version } = options;
    const migration = { options, directory, release, client };
    await takeLock(client, options, () => refuseUnfit(migration));
    try {
      return { applied: await runSteps(migration) };
    } finally {
      // If the connection is lost, the lock is free without this.
      await releaseLock(client).catch(() => {});
    }
  } finally {
    await client.end();
  }
}

/** Refuses a server or database that BrainOps cannot use. Changes nothing. */
async function refuseUnfit(migration: Migration): Promise<void> {
  await refuseOldServer(migration.client);
  await refuseForeignTables(migration);
}

async function runSteps(migration: Migration): Promise<string[]> {
  await refuseUnfit(migration);
  await refuseLowerRelease(migration);
  await bootstrap(migration);
  await migrateGraphileWorker(migration);
  await compareWithFiles(migration, "before");
  const applied = [
    await applyNumbered(migration, schemaSet),
    await applyRepeatable(migration, functionSet),
    await applyRepeatable(migration, tableSet),
    await applyRepeatable(migration, viewSet),
    await applyNumbered(migration, afterSet),
    await applyConcurrent(migration),
  ].flat();
  await settleRights(migration);
  await compareWithFiles(migration, "after");
  await recordRelease(migration);
  return applied;
}
