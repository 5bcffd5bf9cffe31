// How a worker processes a row: claim, prepare, effect, settle.
import { setImmediate } from "node:timers/promises";
import { isConnectionLost } from "../db/pool.ts";
import { runAsTenant } from "../db/tenant.ts";
import { BrainOpsError, messageOf } from "../errors.ts";
import type { Config } from "../config.ts";
import type { Log } from "../telemetry/log.ts";
import { recordOutcome } from "../telemetry/metrics.ts";
import type { Deadlines } from "./deadlines.ts";
import type { Job, JobContext } from "./define.ts";
import { HeldUpError, type HoldUps } from "./holdUps.ts";
import { afterRefusal, type Result } from "./outcome.ts";
import { unwatched, watchRequests, type RequestWatch } from "./requests.ts";
import type { Store } from "./store.ts";
import type { Claimed, JobTable } from "./types.ts";
import type pg from "pg";
import { z } from "zod";

export interface Runtime {
  readonly config: Config;
  readonly log: Log;
  /** Pool of pipelining clients, for tenant transactions. */
  readonly pool: pg.Pool;
  readonly store: Store;
  readonly holdUps: HoldUps;
  readonly deadlines: Deadlines;
}

// When a row is tried again whose effect was held up by locks: about as long as a client's transaction may take.
const HELD_UP_MS = 5000;

const payloadShape = z.object({ id: z.uuid(), tenant_id: z.uuid() });

/**
 * Runs the row that the payload names, and the rows of its bulk that were claimed with it, if it may go now. Rejects
 * only if Postgres is unreachable or, with a HeldUpError, if the tenant's rows are left alone for now; every other
 * failure is an outcome of the row.
 */
export function runJob(runtime: Runtime, job: Job, table: JobTable, payload: unknown): Promise<void> {
  const named = payloadShape.safeParse(payload);
  if (!named.success) {
    runtime.log.error({ task: table.task_identifier, payload }, "dropped a job whose payload does not name a row");
    return Promise.resolve();
  }
  const { id, tenant_id: tenantId } = named.data;
  const state: RowState = { claimed: [], left: false };
  // One promise, because this is done for every row.
  return new Promise((resolve, reject) => {
    const stay = runtime.holdUps.whenHeldUp(table, tenantId, () => {
      state.left = true;
      runtime.store.setAside(state.claimed);
      // What was claimed is processed without a slot, and needs no job. A claim that is still waiting may fail.
      if (state.claimed.length > 0) resolve();
      else reject(new HeldUpError(`a claim in ${table.table_name} is waiting for a lock`));
    });
    const end = (error?: unknown): void => {
      stay();
      if (error === undefined) resolve();
      else if (state.left) reportLeft(runtime, table, state, error);
      else reject(error);
    };
    runRow(runtime, job, table, tenantId, id, state).then(end, end);
  });
}

function reportLeft({ log }: Runtime, table: JobTable, { claimed }: RowState, error: unknown): void {
  if (error instanceof HeldUpError && claimed.length === 0) return;
  const ids = claimed.map(({ row }) => row.id);
  log.error({ err: error, table: table.table_name, ids }, "could not write the results of rows");
}

/** How far a row's job has come. */
interface RowState {
  claimed: readonly Claimed[];
  /** Whether the job has given up its slot. */
  left: boolean;
}

async function runRow(
  runtime: Runtime,
  job: Job,
  table: JobTable,
  tenantId: string,
  id: string,
  state: RowState,
): Promise<void> {
  const claimed = await runtime.store.claim(table, tenantId, id);
  state.claimed = claimed;
  if (state.left) runtime.store.setAside(claimed);
  const [first] = claimed;
  if (first === undefined) return;

  const started = performance.now();
  if (first.bulk === null) {
    const result = await perform(runtime, job, table, first);
    return settleRow(runtime, table, first, result, started);
  }
  const results = await performBulk(runtime, job, table, claimed);
  await Promise.all(
    claimed.map((row, index) =>
      settleRow(runtime, table, row, results[index] ?? afterNoResult(table, row.now()), started),
    ),
  );
}

function afterNoResult(table: JobTable, now: Date): Result {
  return afterThrow(new Error("the bulk handler returned no result for this row"), table, now, false);
}

async function settleRow(
  { store, log }: Runtime,
  table: JobTable,
  claimed: Claimed,
  result: Result,
  started: number,
): Promise<void> {
  const { id, tenant_id: tenantId } = claimed.row;
  const status = await store.settle(table, tenantId, claimed, result);
  const { outcome } = result;
  recordOutcome(table.table_name, outcome.kind, (performance.now() - started) / 1000);
  if (status === null)
    log.warn({ table: table.table_name, id, outcome }, "settled too late: the row's lease no longer holds");
  else if (status !== "completed") log.info({ table: table.table_name, id, status, outcome }, "row not completed");
}

async function perform(runtime: Runtime, job: Job, table: JobTable, claimed: Claimed): Promise<Result> {
  const { row, now } = claimed;
  let prepared: unknown = row;
  if (job.definition.prepare !== undefined) {
    // Yields before each row, so that a slow `prepare` of many rows does not block the event loop for the others.
    await setImmediate();
    try {
      prepared = await job.definition.prepare(row, { config: runtime.config, now });
    } catch (error) {
      return afterRefusal(error);
    }
  }
  const watch = watchRequests();
  return underDeadline(runtime, table, claimed, watch, async (context) => {
    const outcome = await job.definition.effect(prepared, context);
    return { outcome, providerCalled: watch.begun };
  }).catch((error: unknown) => afterThrow(error, table, now(), watch.begun));
}

async function performBulk(
  runtime: Runtime,
  { definition: { bulk } }: Job,
  table: JobTable,
  claimed: readonly Claimed[],
): Promise<readonly Result[]> {
  const [first] = claimed;
  if (first === undefined || bulk === undefined) throw new Error(`${table.table_name}: the job has no bulk handler`);
  const rows = claimed.map(({ row }) => row);
  const watch = watchRequests();
  try {
    const results = await underDeadline(runtime, table, first, watch, (context) => bulk.effect(rows, context));
    return watch.begun ? results : results.map((result) => ({ ...result, providerCalled: false }));
  } catch (error) {
    const result = afterThrow(error, table, first.now(), watch.begun);
    // One provider call counts once for the circuit breaker.
    return rows.map((_, index) => ({ ...result, providerCalled: result.providerCalled && index === 0 }));
  }
}

/** Runs an effect with its context, for at most the table's time limit, and watches its requests. */
async function underDeadline<T>(
  runtime: Runtime,
  table: JobTable,
  { row, now }: Claimed,
  watch: RequestWatch,
  effect: (context: JobContext) => Promise<T>,
): Promise<T> {
  const deadline = runtime.deadlines.start(table.time_limit_ms);
  const context: JobContext = {
    config: runtime.config,
    log: runtime.log,
    now,
    signal: deadline.signal,
    markCalled: () => watch.markBegun(),
    query: async (text, values = []) => {
      const { holdUps, pool } = runtime;
      const [result] = await unwatched(() =>
        holdUps.watch(table, row.tenant_id, ({ begin }) => runAsTenant(pool, row.tenant_id, [{ text, values }], begin)),
      );
      if (result === undefined) throw new Error("the statement returned no result");
      return result;
    },
  };
  try {
    return await Promise.race([watch.run(() => effect(context)), deadline.over]);
  } finally {
    deadline.clear();
  }
}

/**
 * The result of a thrown error: whether the effect happened is unknown, so it is retried only if it is idempotent.
 * @param called whether a request has left; if not, the error is not a failure of the provider account
 */
function afterThrow(error: unknown, table: JobTable, now: Date, called: boolean): Result {
  if (error instanceof BrainOpsError) return afterRefusal(error);
  const reason = messageOf(error);
  if (!table.effect_is_idempotent) return { outcome: { kind: "unconfirmed", reason }, providerCalled: called };
  // Nothing was written, and the row is not the cause.
  if (error instanceof HeldUpError) {
    return { outcome: { kind: "defer", reason, at: new Date(now.getTime() + HELD_UP_MS) }, providerCalled: false };
  }
  const at = isConnectionLost(error) ? { at: new Date(now.getTime() + 2000) } : {};
  return { outcome: { kind: "retry", reason, ...at }, providerCalled: called };
}
