// What a file in tasks/ exports. A job is the work on one job table, row by row; a task is anything
// else that crontab or a trigger starts.
import type pg from "pg";
import type { JobHelpers } from "graphile-worker";
import type { Config, Provider } from "../config.ts";
import type { Log } from "../telemetry/log.ts";
import type { Outcome, Result } from "./outcome.ts";

/** The columns that every load query returns, in addition to the table's own columns. */
export interface JobRow {
  readonly id: string;
  readonly tenant_id: string;
  /** Attempts so far, this one included. */
  readonly attempts: number;
  readonly max_attempts: number;
}

export interface JobContext {
  readonly config: Config;
  readonly log: Log;
  /**
   * The engine's clock: brainops.now() as of the claim, advanced by this process's monotonic clock. Use it instead of
   * `new Date()` for every decision about a row.
   */
  readonly now: () => Date;
  /** Aborted when the table's time_limit has passed, or when the worker must stop at once. */
  readonly signal: AbortSignal;
  /**
   * Reports that the provider is being called. Needed only for calls that Node does not show: those that use
   * neither Node's HTTP clients nor fetch nor a connection that the effect opened itself. Without a call, an outcome
   * does not count for the circuit breaker.
   */
  readonly markCalled: () => void;
  /** Runs one statement in a transaction of its own, as the row's tenant. */
  readonly query: (text: string, values?: readonly unknown[]) => Promise<pg.QueryResult>;
}

export interface JobDefinition<Row extends JobRow, Prepared> {
  /** Name in brainops.job_tables, e.g. ai_email_queue. */
  readonly table: string;
  /**
   * Provider that the effect calls. A worker that has neither the provider's variables nor BRAINOPS_SECRET_KEY does
   * not offer the task. With BRAINOPS_SECRET_KEY alone it processes the rows of tenants that have an account of their
   * own. The other rows wait, and their last_error names what is missing. @default no provider
   */
  readonly requires?: Provider;
  /**
   * Query that reads claimed rows, and what belongs to them, in the claiming transaction. $1 is uuid[].
   * @default the table's own columns, without the engine's bookkeeping columns
   */
  readonly load?: string;
  /**
   * Turns a row into the effect's argument, without I/O. If it throws, the row fails with that message, and the provider
   * does not count as called; an OutcomeError gives the row another outcome. It must not take long: nothing else runs
   * meanwhile, unless it works in a thread and returns a promise. @default the row itself
   */
  readonly prepare?: (row: Row, context: Pick<JobContext, "config" | "now">) => Prepared | Promise<Prepared>;
  /**
   * Does the work, outside any transaction. If it throws, the outcome is retry if the table's effect is idempotent,
   * else unconfirmed. A handler that knows better returns an Outcome. The circuit breaker counts it only if a request
   * has left (requests.ts).
   */
  readonly effect: (prepared: Prepared, context: JobContext) => Promise<Outcome>;
  /**
   * Handles rows that have a bulk key, instead of load, prepare and effect. Needed if the table has one
   * (brainops.job_tables.bulk_column). @default none
   */
  readonly bulk?: BulkDefinition<JobRow>;
}

/** The handler of rows that share one provider call. */
export interface BulkDefinition<Row extends JobRow> {
  /**
   * Query that reads claimed rows with a bulk key, which `load` must leave out. $1 is uuid[]. The rows come as JSON,
   * so timestamps are text.
   */
  readonly load: string;
  /**
   * Does the work for claimed rows with the same bulk key, outside any transaction. Returns one result for each row,
   * in their order. If it throws, all of them get the outcome that a thrown error has for a single row.
   */
  readonly effect: (rows: readonly Row[], context: JobContext) => Promise<readonly Result[]>;
}

/** A job as the engine holds it, without its type parameters. */
export interface Job {
  readonly kind: "job";
  readonly definition: JobDefinition<JobRow, unknown>;
}

export interface TaskContext {
  readonly config: Config;
  readonly log: Log;
  readonly pool: pg.Pool;
  /** Aborted when the worker must stop at once. */
  readonly signal: AbortSignal;
  readonly helpers: JobHelpers;
  /** Tasks that this worker does not offer -> the reason, as their waiting rows show it in last_error. */
  readonly waiting: ReadonlyMap<string, string>;
}

export interface Task {
  readonly kind: "task";
  readonly run: (payload: unknown, context: TaskContext) => Promise<void>;
}

/** Defines the work on one job table. Without `prepare`, the effect takes the row itself. */
export function defineJob<Row extends JobRow, Prepared>(definition: JobDefinition<Row, Prepared>): Job;
export function defineJob<Row extends JobRow>(definition: Omit<JobDefinition<Row, Row>, "prepare">): Job;
export function defineJob(definition: Omit<JobDefinition<JobRow, unknown>, "prepare">): Job {
  return { kind: "job", definition };
}

/** Defines the bulk handler of a job, with its row type checked. */
export function defineBulk<Row extends JobRow>(definition: BulkDefinition<Row>): BulkDefinition<JobRow>;
export function defineBulk(definition: BulkDefinition<JobRow>): BulkDefinition<JobRow> {
  return definition;
}

/** Defines work without a job table. `run` gets the graphile-worker payload; if it throws, graphile-worker retries. */
export function defineTask(run: Task["run"]): Task {
  return { kind: "task", run };
}
