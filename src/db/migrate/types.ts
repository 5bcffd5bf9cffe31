// What every step of a migration shares.
import type pg from "pg";

export interface MigrateOptions {
  readonly connectionString: string;
  /** Folder with NNNN-name.sql, _bootstrap.sql, functions/, tables/, views/, after/ and concurrent/. @default sql/ of this installation */
  readonly directory?: string;
  /** The release that this program is. @default the package's version */
  readonly release?: string;
  /** How long to wait for another migrator. @default 300,000 ms */
  readonly lockWaitMs?: number;
  /** How often to try a file whose lock_timeout ran out. @default 10 */
  readonly lockRetries?: number;
  readonly log?: (line: string) => void;
}

export interface MigrateReport {
  /**
   * What this call applied, in order: a file's path below sql/, or `functions (67 files)` and
   * `views (5 files)` for the sets that are applied as a whole.
   */
  readonly applied: readonly string[];
}

export class MigrationError extends Error {
  override name = "MigrationError";
}

/** One migration under way. */
export interface Migration {
  readonly options: MigrateOptions;
  readonly directory: string;
  readonly release: string;
  /** Holds the migrator's lock. What it runs in a transaction is rolled back when the lock is lost. */
  readonly client: pg.Client;
}
