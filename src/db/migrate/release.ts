// Releases. A database stores which release migrated it and the oldest program that may still use it. So programs of
// different releases can run side by side during a deployment and after a rollback:
//
//   the program is         migrate                               work, serve and /readyz
//   below oldest_program   refuses                               refuse: a contracting migration removed what it needs
//   below release          refuses: it would put older           accept
//                          functions in place of newer ones
//   the same release       applies what is new                   accept
//   above release          applies what is new                   refuse, until migrate has run
//
// A numbered file that contracts says so in its header, and raises oldest_program itself, in its own transaction:
//
//   -- Compatibility: contract; programs before 0.3.0 must have stopped.
//   update brainops.release set oldest_program = '0.3.0';
import type pg from "pg";
import { codeOf } from "../../errors.ts";
import { version } from "../../version.ts";
import { limits } from "../limits.ts";
import { openClient } from "../pool.ts";
import { compareReleases } from "./compareReleases.ts";
import { MigrationError, type Migration } from "./types.ts";

/** The row of brainops.release. */
export interface StoredRelease {
  /** The release that migrated the database last; null until a migration has succeeded. */
  readonly release: string | null;
  /** The lowest release of a program that may run. */
  readonly oldestProgram: string;
}

/** The program is too old for the database. */
export class ProgramTooOldError extends MigrationError {
  override name = "ProgramTooOldError";
}

/** Columns of brainops.release, as a StoredRelease. */
export const releaseColumns = 'release, oldest_program as "oldestProgram"';

/** The row of brainops.release; null if the database was never migrated. Do not call it in an open transaction, because its query may fail. */
export async function storedRelease(client: pg.Client): Promise<StoredRelease | null> {
  try {
    const { rows } = await client.query<StoredRelease>(`select ${releaseColumns} from brainops.release`);
    return rows[0] ?? null;
  } catch (error) {
    if (codeOf(error) === "42P01") return null;
    throw error;
  }
}

/** Why a program must not use a database. */
export interface ReleaseProblem {
  readonly kind: "too old" | "not migrated";
  /** One sentence, without a capital letter at its start and a full stop at its end. */
  readonly text: string;
}

/** Why a program must not use a database with this row; null if it may. */
export function releaseProblem(stored: StoredRelease | null, program: string = version): ReleaseProblem | null {
  if (stored === null || stored.release === null) {
    return { kind: "not migrated", text: "the database is not migrated; run brainops migrate" };
  }
  const { release, oldestProgram } = stored;
  if (compareReleases(program, oldestProgram) < 0) {
    // While the migration that raised oldest_program has not ended, release is the one before.
    const fits = compareReleases(release, oldestProgram) < 0 ? oldestProgram : release;
    return {
      kind: "too old",
      text: `this program is release ${program}, and the database needs ${oldestProgram} or newer; deploy release ${fits}`,
    };
  }
  if (compareReleases(program, release) > 0) {
    return {
      kind: "not migrated",
      text: `the database has release ${release}, and this program is ${program}; run brainops migrate`,
    };
  }
  return null;
}

/**
 * A program calls it before it uses a database. Throws a ProgramTooOldError, or a MigrationError if the database has to
 * be migrated first. Throws node-postgres's error if Postgres does not answer within 5 s.
 */
export async function requireRelease(connectionString: string): Promise<void> {
  const client = await openClient({ connectionString, applicationName: "brainops release", limits: limits.start });
  try {
    const problem = releaseProblem(await storedRelease(client));
    if (problem === null) return;
    throw new (problem.kind === "too old" ? ProgramTooOldError : MigrationError)(problem.text);
  } finally {
    await client.end().catch(() => {});
  }
}

/**
 * Throws a ProgramTooOldError if a later release has migrated the database, or has failed while doing so: each file is
 * recorded with the release that applied it.
 */
export async function refuseLowerRelease({ client, release: program }: Migration): Promise<void> {
  const stored = await storedRelease(client);
  // Includes this program's release, so that a malformed one is refused before it is stored.
  const releases = [program, stored?.release ?? program, ...(await appliedReleases(client))];
  const highest = releases.toSorted(compareReleases).at(-1) ?? program;
  if (compareReleases(program, highest) >= 0) return;
  throw new ProgramTooOldError(
    `This program is release ${program}, and the database was migrated by ${highest}. Nothing was changed, because ` +
      `older functions must not replace newer ones. Run brainops migrate from release ${highest} or newer.`,
  );
}

async function appliedReleases(client: pg.Client): Promise<string[]> {
  const { rows: exists } = await client.query<{ exists: boolean }>(
    "select to_regclass('brainops.migrations_repeatable') is not null as exists",
  );
  if (exists[0]?.exists !== true) return [];
  const { rows } = await client.query<{ release: string }>(
    "select distinct release from brainops.migrations_repeatable",
  );
  return rows.map(({ release }) => release);
}

/** The last step of a migration: from now on programs of this release may start. */
export async function recordRelease({ client, release }: Migration): Promise<void> {
  await client.query(
    "update brainops.release set release = $1, migrated_at = now() where release is distinct from $1",
    [release],
  );
}
