// Worker liveness. Owns one connection, which holds a session advisory lock: when the process or the
// connection dies, Postgres releases the lock, and the other workers notice (brainops_internal.watch_workers).
// If only this connection was lost, a new one takes a lock under a new number before the others declare the
// worker dead (3 s). The old lock may be a tenant's by then.
import { hostname } from "node:os";
import type pg from "pg";
import { createGrace } from "../db/deployment.ts";
import { limits } from "../db/limits.ts";
import { ProgramTooOldError, releaseColumns, releaseProblem, type StoredRelease } from "../db/migrate/release.ts";
import { isTimeLimit, openClient } from "../db/pool.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import { guardSessions } from "./sessionGuard.ts";

const TICK_MS = 1000;

export interface LivenessOptions {
  readonly connectionString: string;
  readonly workerId: string;
  readonly tasks: readonly string[];
  readonly log: Log;
  /** Called with each measurement of skewOf, in milliseconds. */
  readonly onSkew: (skewMs: number) => void;
  /**
   * Called with a FunctionGoneError if the functions that liveness calls are gone, and with a ProgramTooOldError once
   * the database needs a newer program: what a contracting migration removes, not only a call of a function may miss.
   */
  readonly onError: (error: unknown) => void;
}

export interface Liveness {
  /** Records a graphile-worker pool as this worker's, so that its jobs are unlocked if the worker dies. */
  addPool(poolId: string): Promise<void>;
  /** Unlocks the jobs of a pool that has ended, as soon as Postgres is reachable. */
  retirePool(poolId: string): void;
  /** Whether the connection that holds the lock is up. */
  readonly standing: boolean;
  /** Deregisters the worker and unlocks its jobs, so that the others need not rescue it. */
  stop(): Promise<void>;
}

/** A row of watch_workers, or its columns as null where no worker died. */
interface Watched {
  readonly worker_id: string | null;
  readonly host: string;
  readonly pid: number;
  readonly rescued_rows: number;
  readonly now: Date;
  readonly stored: StoredRelease | null;
}

/** Resolves when the worker is registered. Throws if that fails. */
export async function startLiveness(options: LivenessOptions): Promise<Liveness> {
  let client: pg.Client | null = null;
  let stopped = false;
  let ticking: Promise<void> | null = null;
  const pools = new Set<string>();
  const retired = new Set<string>();
  const grace = createGrace(() => performance.now());

  const connect = async (): Promise<pg.Client> => {
    const fresh = await openClient({
      connectionString: options.connectionString,
      applicationName: "brainops liveness",
      limits: limits.liveness,
    });
    const lost = (): void => {
      if (client === fresh) client = null;
    };
    fresh.on("error", lost);
    fresh.on("end", lost);
    try {
      const asked = Date.now();
      const { rows } = await fresh.query<{ announced: boolean; now: Date }>(
        "select brainops_internal.register_worker($1, $2, $3, $4) as announced, clock_timestamp() as now",
        [options.workerId, hostname(), process.pid, options.tasks],
      );
      if (rows[0]?.announced !== true) throw new Error("all liveness locks that were tried are taken");
      options.onSkew(skewOf(asked, rows[0].now));
      await savePools(fresh);
    } catch (error) {
      await fresh.end().catch(() => {});
      throw error;
    }
    return fresh;
  };

  const savePools = async (on: pg.Client): Promise<void> => {
    await on.query("update brainops.worker_processes set pool_ids = $2 where id = $1", [options.workerId, [...pools]]);
  };

  const unlockRetired = async (on: pg.Client): Promise<void> => {
    const gone = [...retired];
    if (gone.length === 0) return;
    await on.query("select graphile_worker.force_unlock_workers($1)", [gone]);
    for (const poolId of gone) {
      pools.delete(poolId);
      retired.delete(poolId);
    }
    await savePools(on);
  };

  const passes = (error: unknown): boolean => {
    try {
      return grace.allows(error);
    } catch (gone) {
      options.onError(gone);
      return false;
    }
  };

  const tick = async (): Promise<void> => {
    try {
      client ??= await connect();
      // First, because what follows may wait for the sessions that it ends.
      await guardSessions(client, options.log);
      await unlockRetired(client);
      const asked = Date.now();
      const { rows } = await client.query<Watched>(
        `select w.*, clock_timestamp() as now, (select to_jsonb(r) from (select ${releaseColumns} from brainops.release) as r) as stored
         from (select) as one left join brainops_internal.watch_workers($1) as w on true`,
        [options.workerId],
      );
      grace.reset();
      const [first] = rows;
      if (first !== undefined) options.onSkew(skewOf(asked, first.now));
      for (const { stored: _stored, ...row } of rows) {
        if (row.worker_id !== null) options.log.warn(row, "a worker died; its rows and jobs were released");
      }
      const problem = releaseProblem(first?.stored ?? null);
      if (problem?.kind === "too old") options.onError(new ProgramTooOldError(problem.text));
    } catch (error) {
      // The connection is kept during a deployment: without its lock, the others would declare this worker dead.
      if (client !== null && passes(error)) {
        options.log.warn({ reason: messageOf(error) }, "a function is being replaced; trying again");
        return;
      }
      // Postgres has answered: a row is locked. The connection is kept for the same reason.
      if (client !== null && isTimeLimit(error)) {
        options.log.warn({ reason: messageOf(error) }, "could not look after the other workers; trying again");
        return;
      }
      options.log.warn({ reason: messageOf(error) }, "liveness connection failed; reconnecting");
      const broken = client;
      client = null;
      await broken?.end().catch(() => {});
    }
  };

  client = await connect();
  const soon = (): void => {
    if (stopped) return;
    ticking ??= tick().finally(() => {
      ticking = null;
    });
  };
  const timer = setInterval(soon, TICK_MS);

  return {
    get standing() {
      return client !== null;
    },
    addPool: async (poolId) => {
      pools.add(poolId);
      if (client !== null) await savePools(client);
    },
    retirePool: (poolId) => {
      retired.add(poolId);
      soon();
    },
    stop: async () => {
      if (stopped) return;
      stopped = true;
      clearInterval(timer);
      await ticking;
      const last = client;
      client = null;
      if (last === null) return;
      await last.query("select brainops_internal.deregister_worker($1)", [options.workerId]).catch((error: unknown) => {
        options.log.warn({ reason: messageOf(error) }, "could not deregister; another worker will");
      });
      await last.end().catch(() => {});
    },
  };
}

/**
 * The smallest difference between this machine's clock and Postgres's that is consistent with the answer, in
 * milliseconds; above zero if this machine is ahead. Postgres read `read` at some time between `asked` and `answered`
 * (both by this machine's clock, in Unix milliseconds), so a slow answer proves little.
 */
export function skewOf(asked: number, read: Date, answered = Date.now()): number {
  const readAt = read.getTime();
  if (readAt < asked) return asked - readAt;
  return Math.min(0, answered - readAt);
}
