// The way of one row through a worker: claim, prepare, effect, settle.
import { setImmediate } from "node:timers/promises";
import { isConnectionLost } from "../db/pool.ts";
import { runAsTenant } from "../db/tenant.ts";
import { BrainOpsError, messageOf } from "../errors.ts";
import type { Config } from "../config.ts";
import type { Log } from "../telemetry/log.ts";
import { recordOutcome } from "../telemetry/metrics.ts";
import type { Deadlines } from "./deadlines.ts";
import type { Job, JobContext, JobRow } from "./define.ts";
import type { Outcome } from "./outcome.ts";
import type { Ended, JobTable, Store } from "./store.ts";
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

/** Runs the row that the payload names, if it may go now. Throws only when Postgres is out of reach. */
export async function runJob(runtime: Runtime, job: Job, table: JobTable, payload: unknown): Promise<void> {
  const named = payloadShape.safeParse(payload);
  if (!named.success) {
    runtime.log.error({ task: table.task_identifier, payload }, "a job's payload names no row; it is dropped");
    return;
  }
  const { id, tenant_id: tenantId } = named.data;
  const load = job.definition.load ?? table.load;
  const claimed = await runtime.store.claim(table, load, tenantId, id);
  if (claimed === null) return;

  const started = performance.now();
  const ended = await perform(runtime, job, table, claimed.row);
  const { outcome } = ended;
  const status = await runtime.store.settle(table, tenantId, claimed, ended);
  recordOutcome(table.table_name, outcome.kind, (performance.now() - started) / 1000);
  if (status === null) {
    runtime.log.warn({ table: table.table_name, id, outcome }, "settled too late: the row is no longer ours");
  } else if (status !== "completed") {
    runtime.log.info({ table: table.table_name, id, status, outcome }, "row not completed");
  }
}

async function perform(runtime: Runtime, job: Job, table: JobTable, row: JobRow): Promise<Ended> {
  let prepared: unknown = row;
  if (job.definition.prepare !== undefined) {
    // Rows are prepared in turns with everything else: one tenant's slow templates hold up nobody.
    await setImmediate();
    try {
      prepared = job.definition.prepare(row, { config: runtime.config });
    } catch (error) {
      return { outcome: { kind: "fail", reason: messageOf(error) }, reachedSender: false };
    }
  }

  const deadline = runtime.deadlines.start(table.time_limit_ms);
  const context: JobContext = {
    config: runtime.config,
    log: runtime.log,
    signal: deadline.signal,
    query: async (text, values = []) => {
      const [result] = await runAsTenant(runtime.pool, row.tenant_id, [{ text, values }]);
      if (result === undefined) throw new Error("no result");
      return result;
    },
  };
  try {
    const outcome = await Promise.race([job.definition.effect(prepared, context), deadline.over]);
    return { outcome, reachedSender: true };
  } catch (error) {
    return { outcome: afterThrow(error, table), reachedSender: !(error instanceof BrainOpsError) };
  } finally {
    deadline.clear();
  }
}

/** What a thrown error means: the handler did not know better, so the table's nature decides. */
function afterThrow(error: unknown, table: JobTable): Outcome {
  const reason = messageOf(error);
  if (error instanceof BrainOpsError) return { kind: "fail", reason: `${error.code}: ${reason}` };
  if (!table.effect_is_idempotent) return { kind: "unconfirmed", reason };
  return isConnectionLost(error)
    ? { kind: "retry", reason, at: new Date(Date.now() + 2000) }
    : { kind: "retry", reason };
}
