// What a file in tasks/ exports. A job is the work of one job table, row by row; a task is
// anything else that crontab or a trigger sets off.
import type pg from "pg";
import type { JobHelpers } from "graphile-worker";
import type { Config, Provider } from "../config.ts";
import type { Log } from "../telemetry/log.ts";
import type { Ended, Outcome } from "./outcome.ts";

/** What the engine knows of a row, whatever its table; the table's own columns come beside it. */
export interface JobRow {
  readonly id: string;
  readonly tenant_id: string;
  readonly attempts: number;
  readonly max_attempts: number;
}

export interface JobContext {
  readonly config: Config;
  readonly log: Log;
  /** The engine's clock: brainops.now() as of the claim, and on from there. Never `new Date()` for business time. */
  readonly now: () => Date;
  /** Aborted when the table's time_limit is over or the worker must stop at once. */
  readonly signal: AbortSignal;
  /** Runs statements in one transaction as the row's tenant. Never held over an outside call. */
  readonly query: (text: string, values?: readonly unknown[]) => Promise<pg.QueryResult>;
}

export interface JobDefinition<Row extends JobRow, Prepared> {
  /** Name in brainops.job_tables, e.g. ai_email_queue. */
  readonly table: string;
  /**
   * Provider of the effect. Where the worker has neither its variables nor BRAINOPS_SECRET_KEY the
   * task is not offered; where it has only the latter, tenants with an account of their own go on.
   * The rows that wait say what for.
   */
  readonly requires?: Provider;
  /**
   * Reads claimed rows with what belongs to them, in the claiming transaction. $1 is uuid[].
   * @default the table's own columns, without the engine's books
   */
  readonly load?: string;
  /** Turns a row into what the effect needs. Pure; what it throws makes the row fail. @default the row itself */
  readonly prepare?: (row: Row, context: Pick<JobContext, "config" | "now">) => Prepared;
  /**
   * Does it, outside any transaction. What it throws is retry where the table's effect is
   * idempotent, else unconfirmed: a handler that knows better returns an Outcome.
   */
  readonly effect: (prepared: Prepared, context: JobContext) => Promise<Outcome>;
  /** What is done with rows that have a batch (brainops.job_tables.batch_column), instead of all of the above. */
  readonly batch?: BatchDefinition<JobRow>;
}

/** The work of rows that share a batch: many rows, one call. */
export interface BatchDefinition<Row extends JobRow> {
  /** Reads claimed rows that have a batch. $1 is uuid[]. `load` leaves these out. Values come by way of JSON: times as text. */
  readonly load: string;
  /**
   * Does rows of one batch, outside any transaction; how each ended, in their order. What it
   * throws counts for all of them.
   */
  readonly effect: (rows: readonly Row[], context: JobContext) => Promise<readonly Ended[]>;
}

/** A job definition with its types closed over, as the engine holds it. */
export interface Job {
  readonly kind: "job";
  readonly definition: JobDefinition<JobRow, unknown>;
}

export interface TaskContext {
  readonly config: Config;
  readonly log: Log;
  readonly pool: pg.Pool;
  readonly signal: AbortSignal;
  readonly helpers: JobHelpers;
  /** Tasks that this worker does not offer -> why, in the words their rows show. */
  readonly waiting: ReadonlyMap<string, string>;
}

export interface Task {
  readonly kind: "task";
  readonly run: (payload: unknown, context: TaskContext) => Promise<void>;
}

/** The work of one job table. Without `prepare`, the effect takes the row itself. */
export function defineJob<Row extends JobRow, Prepared>(definition: JobDefinition<Row, Prepared>): Job;
export function defineJob<Row extends JobRow>(definition: Omit<JobDefinition<Row, Row>, "prepare">): Job;
export function defineJob(definition: Omit<JobDefinition<JobRow, unknown>, "prepare">): Job {
  return { kind: "job", definition };
}

/** The batch half of a job, with the type of its rows closed over. */
export function defineBatch<Row extends JobRow>(definition: BatchDefinition<Row>): BatchDefinition<JobRow>;
export function defineBatch(definition: BatchDefinition<JobRow>): BatchDefinition<JobRow> {
  return definition;
}

/** Work without a job table: `run` gets the graphile-worker payload. Throwing makes graphile-worker retry. */
export function defineTask(run: Task["run"]): Task {
  return { kind: "task", run };
}
