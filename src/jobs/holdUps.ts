// Hold-ups: transactions for the rows of one table and tenant that wait for locks, which as a rule another transaction of
// the same tenant holds. Owns the decision to leave these rows alone for a while. A job that waited would occupy one of
// the worker's slots, and a tenant with enough due rows would occupy all of them.
//
// - While a transaction has been running, or waiting for a connection, for more than a second (a tenth of it if the tenant was held up lately, in
//   any table), all jobs of the table and tenant give up their slots. What they have begun goes on without a slot.
// - A lock or statement timeout begins a hold-up. It lasts 1 s, and twice as long, up to 30 s, each time that one
//   follows within half a minute of the last. Successes do not shorten it: claims may succeed while effects wait.
// - Meanwhile claims and statements of effects fail at once, and the row gets another job in 5 to 10 s (taskList.ts).
//   Results are still written. While one cannot be, nothing new is claimed, so the number of results that wait in
//   memory is bounded by what was in flight.
import { isTimeLimit } from "../db/pool.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import { recordHoldUp } from "../telemetry/metrics.ts";
import type { JobTable } from "./types.ts";

const PATIENCE_MS = 1000;
const LESS_PATIENCE_MS = 100;
const FIRST_MS = 1000;
const MAX_MS = 30_000;

/** The rows are left alone for now: the transaction was rolled back, or not started. */
export class HeldUpError extends Error {
  override name = "HeldUpError";
}

interface Lane {
  readonly table: JobTable;
  readonly tenantId: string;
  failures: number;
  until: number;
  /** Transactions that have been running for longer than the patience, and results that could not be written yet. */
  readonly waiting: Set<object>;
  /** Called when the jobs that wait are to give up their slots. */
  readonly leaves: Set<() => void>;
}

/** A transaction that is being watched. */
export interface Watched {
  /** Call it when the transaction starts. Throws a HeldUpError if another one of the table and tenant is held up. */
  readonly begin: () => void;
  /** Call it after each failure that is followed by another attempt. */
  readonly failed: (error: unknown) => void;
}

export interface HoldUps {
  /** Throws a HeldUpError while rows of the table and tenant are left alone. */
  check(table: JobTable, tenantId: string): void;
  /** Runs a transaction that may be tried again later. */
  watch<T>(table: JobTable, tenantId: string, run: (watched: Watched) => Promise<T>): Promise<T>;
  /** Runs a transaction that has to be written: `run` repeats it. Its `begin` never throws. */
  write<T>(table: JobTable, tenantId: string, run: (watched: Watched) => Promise<T>): Promise<T>;
  /** Calls `leave` once if a job of the table and tenant is to give up its slot; not after the returned function is called. */
  whenHeldUp(table: JobTable, tenantId: string, leave: () => void): () => void;
}

/** For a process that runs one row: nobody waits behind it, so it waits for locks as long as Postgres lets it. */
export const noHoldUps: HoldUps = {
  check: () => {},
  watch: (_table, _tenantId, run) => run({ begin: () => {}, failed: () => {} }),
  write: (_table, _tenantId, run) => run({ begin: () => {}, failed: () => {} }),
  whenHeldUp: () => () => {},
};

/** @param now a monotonic clock, in milliseconds */
export function createHoldUps(log: Pick<Log, "warn">, now: () => number = () => performance.now()): HoldUps {
  // table -> tenant -> lane
  const lanes = new Map<JobTable, Map<string, Lane>>();
  /** When each tenant was held up last. */
  const recent = new Map<string, number>();

  const laneOf = (table: JobTable, tenantId: string): Lane => {
    let ofTable = lanes.get(table);
    if (ofTable === undefined) lanes.set(table, (ofTable = new Map<string, Lane>()));
    let lane = ofTable.get(tenantId);
    if (lane === undefined) {
      lane = { table, tenantId, failures: 0, until: -Infinity, waiting: new Set(), leaves: new Set() };
      ofTable.set(tenantId, lane);
    }
    return lane;
  };
  const forget = ({ table, tenantId, until, waiting, leaves }: Lane): void => {
    if (waiting.size > 0 || leaves.size > 0 || until + MAX_MS > now()) return;
    lanes.get(table)?.delete(tenantId);
  };
  const patience = (tenantId: string): number => {
    const last = recent.get(tenantId);
    if (last === undefined) return PATIENCE_MS;
    if (last + MAX_MS > now()) return LESS_PATIENCE_MS;
    recent.delete(tenantId);
    return PATIENCE_MS;
  };
  const wait = (lane: Lane, one: object): void => {
    lane.waiting.add(one);
    recent.set(lane.tenantId, now());
    for (const leave of lane.leaves) leave();
    lane.leaves.clear();
  };
  const holdUp = (lane: Lane, error: unknown): void => {
    const at = now();
    // Transactions that were under way when the hold-up began belong to it.
    if (lane.until > at) return;
    if (lane.until + MAX_MS <= at) lane.failures = 0;
    const forMs = Math.min(FIRST_MS * 2 ** lane.failures, MAX_MS);
    lane.failures += 1;
    lane.until = at + forMs;
    const table = lane.table.table_name;
    recordHoldUp(table);
    log.warn(
      { table, tenant: lane.tenantId, forMs, reason: messageOf(error) },
      "a tenant's rows are locked by another transaction, or take too long; trying again later",
    );
  };
  const errorOf = ({ table, tenantId }: Lane, cause?: unknown): HeldUpError =>
    new HeldUpError(
      `rows of ${table.table_name} of tenant ${tenantId} are locked by another transaction; trying again later`,
      cause === undefined ? {} : { cause },
    );
  const check = (lane: Lane): void => {
    if (lane.waiting.size > 0 || lane.until > now()) throw errorOf(lane);
  };
  const run = async <T>(lane: Lane, work: (watched: Watched) => Promise<T>, isResult: boolean): Promise<T> => {
    const one = {};
    // Includes the time for which the tenant has its share of the connections.
    const timer = setTimeout(wait, patience(lane.tenantId), lane, one);
    const begin = (): void => {
      const others = lane.waiting.size - Number(lane.waiting.has(one));
      if (!isResult && (others > 0 || lane.until > now())) throw errorOf(lane);
    };
    const failed = (error: unknown): void => {
      if (!isTimeLimit(error)) return;
      holdUp(lane, error);
      if (isResult) wait(lane, one);
    };
    try {
      return await work({ begin, failed });
    } catch (error) {
      failed(error);
      throw isTimeLimit(error) ? errorOf(lane, error) : error;
    } finally {
      clearTimeout(timer);
      lane.waiting.delete(one);
      forget(lane);
    }
  };

  return {
    check: (table, tenantId) => {
      const lane = lanes.get(table)?.get(tenantId);
      if (lane !== undefined) check(lane);
    },
    watch: (table, tenantId, work) => run(laneOf(table, tenantId), work, false),
    write: (table, tenantId, work) => run(laneOf(table, tenantId), work, true),
    whenHeldUp: (table, tenantId, leave) => {
      const lane = laneOf(table, tenantId);
      lane.leaves.add(leave);
      return () => {
        lane.leaves.delete(leave);
        forget(lane);
      };
    },
  };
}
