// Locks: only one migrator runs at a time, and steps are retried while their tables are locked.
import type pg from "pg";
import { codeOf } from "../../errors.ts";
import { MigrationError, type MigrateOptions } from "./types.ts";

// An arbitrary number, which must be the same in every version of this program.
const LOCK_KEY = 7_251_020_241;

/**
 * Waits for the migrators' lock by polling, every 200 ms. A blocking pg_advisory_lock would hold a snapshot that
 * the other migrator's `create index concurrently` waits for: a deadlock that leaves an invalid index behind.
 */
export async function takeLock(client: pg.Client, options: MigrateOptions): Promise<void> {
  const deadline = Date.now() + (options.lockWaitMs ?? 300_000);
  let logged = false;
  for (;;) {
    const { rows } = await client.query<{ locked: boolean }>("select pg_try_advisory_lock($1) as locked", [LOCK_KEY]);
    if (rows[0]?.locked === true) return;
    if (Date.now() > deadline) {
      throw new MigrationError("Another migrator has held the lock for too long. Stop it, then run migrate again.");
    }
    if (!logged) options.log?.("another migrator is running; waiting for it");
    logged = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
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
