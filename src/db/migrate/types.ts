// Types that every step of a migration uses.
import type pg from "pg";

export interface MigrateOptions {
  readonly connectionString: string;
  /** Folder with NNNN-name.sql, _bootstrap.sql, functions/, tables/, views/, after/ and concurrent/. @default sql/ of this installation */
  readonly directory?: string;
  /** The release of this program. @default the package's version */
  readonly release?: string;
  /** How long to wait for another migrator. @default 300,000 ms */
  readonly lockWaitMs?: number;
  /** How often a file is tried that runs into its lock_timeout. @default 20 */
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

/** A migration in progress. */
export interface Migration {
  readonly options: MigrateOptions;
  readonly directory: string;
  readonly release: string;
  /** The connection that holds the migrators' lock. If it is lost, so is the lock, and its transaction is rolled back. */
  readonly client: pg.Client;
}
