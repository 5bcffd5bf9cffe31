// The way of one row through a worker: claim, prepare, effect, settle.
import { setImmediate } from "node:timers/promises";
import { isConnectionLost } from "../db/pool.ts";
import { runAsTenant } from "../db/tenant.ts";
import { BrainOpsError, messageOf } from "../errors.ts";
import type { Config } from "../config.ts";
import type { Log } from "../telemetry/log.ts";
import { recordOutcome } from "../telemetry/metrics.ts";
import type { Deadlines } from "./deadlines.ts";
import type { Job, JobContext } from "./define.ts";
import { afterRefusal, type Ended, type Outcome } from "./outcome.ts";
import type { Claimed, JobTable, Store } from "./store.ts";
import type pg from "pg";
import { z } from "zod";

export interface Runtime {
  readonly config: Config;
  readonly log: Log;
  /** Pipelining pool for tenant transactions. */
  readonly pool: pg.Pool;
  readonly store: Store;
  readonly deadlines: Deadlines;
}

const payloadShape = z.object({ id: z.uuid(), tenant_id: z.uuid() });

/**
 * Runs the row that the payload names, if it may go now, with what came along of its batch. Throws
 * only when Postgres is out of reach.
 */
export async function runJob(runtime: Runtime, job: Job, table: JobTable, payload: unknown): Promise<void> {
  const named = payloadShape.safeParse(payload);
  if (!named.success) {
    runtime.log.error({ task: table.task_identifier, payload }, "a job's payload names no row; it is dropped");
    return;
  }
  const { id, tenant_id: tenantId } = named.data;
  const claimed = await runtime.store.claim(table, tenantId, id);
  const [first] = claimed;
  if (first === undefined) return;

  const started = performance.now();
  const ended =
    first.batch === null
      ? [await perform(runtime, job, table, first)]
      : await performBatch(runtime, job, table, claimed);
  await Promise.all(
    claimed.map(async (row, index) => {
      const end = ended[index] ?? afterThrow(new Error("its batch said nothing of it"), table, row.now());
      const status = await runtime.store.settle(table, tenantId, row, end);
      report(runtime, table, row, end.outcome, status, started);
    }),
  );
}

function report(
  { log }: Runtime,
  { table_name: table }: JobTable,
  { row: { id } }: Claimed,
  outcome: Outcome,
  status: string | null,
  started: number,
): void {
  recordOutcome(table, outcome.kind, (performance.now() - started) / 1000);
  if (status === null) log.warn({ table, id, outcome }, "settled too late: the row is no longer ours");
  else if (status !== "completed") log.info({ table, id, status, outcome }, "row not completed");
}

async function perform(runtime: Runtime, job: Job, table: JobTable, claimed: Claimed): Promise<Ended> {
  const { row, now } = claimed;
  let prepared: unknown = row;
  if (job.definition.prepare !== undefined) {
    // Rows are prepared in turns with everything else: one tenant's slow templates hold up nobody.
    await setImmediate();
    try {
      prepared = job.definition.prepare(row, { config: runtime.config, now });
    } catch (error) {
      return afterRefusal(error);
    }
  }
  return underDeadline(runtime, table, claimed, async (context) => ({
    outcome: await job.definition.effect(prepared, context),
    reachedSender: true,
  })).catch((error: unknown) => afterThrow(error, table, now()));
}

async function performBatch(
  runtime: Runtime,
  { definition: { batch } }: Job,
  table: JobTable,
  claimed: readonly Claimed[],
): Promise<readonly Ended[]> {
  const [first] = claimed;
  if (first === undefined || batch === undefined) throw new Error(`${table.table_name}: nothing does its batches`);
  const rows = claimed.map(({ row }) => row);
  return underDeadline(runtime, table, first, (context) => batch.effect(rows, context)).catch((error: unknown) => {
    const ended = afterThrow(error, table, first.now());
    // One call, one word on the sender.
    return rows.map((_, index) => ({ ...ended, reachedSender: ended.reachedSender && index === 0 }));
  });
}

/** Runs an effect with its context, for as long as the table's limit allows. */
async function underDeadline<T>(
  runtime: Runtime,
  table: JobTable,
  { row, now }: Claimed,
  effect: (context: JobContext) => Promise<T>,
): Promise<T> {
  const deadline = runtime.deadlines.start(table.time_limit_ms);
  const context: JobContext = {
    config: runtime.config,
    log: runtime.log,
    now,
    signal: deadline.signal,
    query: async (text, values = []) => {
      const [result] = await runAsTenant(runtime.pool, row.tenant_id, [{ text, values }]);
      if (result === undefined) throw new Error("no result");
      return result;
    },
  };
  try {
    return await Promise.race([effect(context), deadline.over]);
  } finally {
    deadline.clear();
  }
}

/** What a thrown error means: the handler did not know better, so the table's nature decides. */
function afterThrow(error: unknown, table: JobTable, now: Date): Ended {
  if (error instanceof BrainOpsError) return afterRefusal(error);
  const reason = messageOf(error);
  if (!table.effect_is_idempotent) return { outcome: { kind: "unconfirmed", reason }, reachedSender: true };
  const at = isConnectionLost(error) ? { at: new Date(now.getTime() + 2000) } : {};
  return { outcome: { kind: "retry", reason, ...at }, reachedSender: true };
}
