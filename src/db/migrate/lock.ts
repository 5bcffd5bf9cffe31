// Locks: one migrator at a time, and patience with tables that others use.
import type pg from "pg";
import { codeOf } from "../../errors.ts";
import { MigrationError, type MigrateOptions } from "./types.ts";

// Any number will do, as long as every version of this program uses the same.
const LOCK_KEY = 7_251_020_241;

/**
 * Waits for the migrators' lock by polling, every 200 ms. A blocking pg_advisory_lock would hold a snapshot that
 * `create index concurrently` of the other migrator waits for: a deadlock that leaves an invalid index behind.
 */
export async function takeLock(client: pg.Client, options: MigrateOptions): Promise<void> {
  const deadline = Date.now() + (options.lockWaitMs ?? 300_000);
  let logged = false;
  for (;;) {
    const { rows } = await client.query<{ locked: boolean }>("select pg_try_advisory_lock($1) as locked", [LOCK_KEY]);
    if (rows[0]?.locked === true) return;
    if (Date.now() > deadline) {
      throw new MigrationError("Another migrator has held the lock for too long. End it, then run migrate again.");
    }
    if (!logged) options.log?.("another migrator is running; waiting for it");
    logged = true;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}

/** Whether a statement gave up on a lock: lock timeout, or deadlock. It may succeed when run again. */
export function isHeldUp(error: unknown): boolean {
  return ["55P03", "40P01"].includes(codeOf(error) ?? "");
}

/** Runs a step again after a lock timeout, so that readers are never blocked for longer than its lock_timeout. */
export async function retryLocked<T>(options: MigrateOptions, run: () => Promise<T>): Promise<T> {
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
