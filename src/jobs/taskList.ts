// Which tasks a worker offers, and what each of them calls. A task that needs credentials this
// worker does not have is not offered; its rows wait and show why.
import type { JobHelpers, TaskList } from "graphile-worker";
import type pg from "pg";
import { missingVariables, type Config } from "../config.ts";
import { isTimeLimit } from "../db/pool.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import type { Job } from "./define.ts";
import { HeldUpError } from "./holdUps.ts";
import type { LoadedTask } from "./loadTasks.ts";
import { runJob, type Runtime } from "./run.ts";
import type { JobTable, MissingCredentials } from "./types.ts";

// Twice that at most. Each row of a tenant that is held up costs a job in that time.
const AGAIN_AFTER_MS = 5000;

type Tasks = ReadonlyMap<string, LoadedTask>;
interface JobTableRow extends Omit<JobTable, "missingCredentials" | "loadBulk"> {
  /** Columns of brainops.job_columns that the table lacks. */
  readonly missing_columns: readonly string[];
}

/** The sentence is written into last_error of waiting rows, so it says what an operator has to set. */
function missingCredentialsOf(task: LoadedTask, config: Config): MissingCredentials {
  const provider = task.kind === "job" ? task.definition.requires : undefined;
  if (provider === undefined) return { platform: null, tenant: null };
  const missing = missingVariables(config, provider);
  return {
    platform: missing.length === 0 ? null : `waiting: needs a worker with ${missing.join(" and ")} set`,
    tenant: config.BRAINOPS_SECRET_KEY === undefined ? "waiting: needs a worker with BRAINOPS_SECRET_KEY set" : null,
  };
}

/** Splits tasks into those whose rows can go through at least one kind of account, and the others with the reason. */
export function splitByCredentials(
  tasks: Tasks,
  config: Config,
): { offered: Map<string, LoadedTask>; waiting: Map<string, string> } {
  const offered = new Map<string, LoadedTask>();
  const waiting = new Map<string, string>();
  for (const [name, task] of tasks) {
    const { platform, tenant } = missingCredentialsOf(task, config);
    if (platform === null || tenant === null) offered.set(name, task);
    else waiting.set(name, platform);
  }
  return { offered, waiting };
}

/**
 * Queues rows that waited for credentials that this worker has. They have no jobs any more: these were used up when
 * another worker held the rows. A table that is locked is left to the sweep.
 */
export async function wakeWaiting({ pool, log, config }: Runtime, tasks: Tasks): Promise<void> {
  for (const task of tasks.values()) {
    if (task.kind !== "job" || task.definition.requires === undefined) continue;
    const { platform } = missingCredentialsOf(task, config);
    if (platform !== null) continue;
    const wake = pool.query("select brainops_internal.wake_rows($1)", [task.definition.table]);
    await wake.catch(unlessLocked(log, "could not queue waiting rows yet; the sweep will"));
  }
}

/** Writes the reason into the rows of tasks that this worker does not offer. A table that is locked is left to the sweep. */
export async function explainWaiting({ pool, log }: Runtime, waiting: ReadonlyMap<string, string>): Promise<void> {
  for (const [task, reason] of waiting) {
    log.warn({ task }, reason);
    const explained = pool.query("select brainops_internal.set_waiting_reason($1, $2)", [task, reason]);
    await explained.catch(unlessLocked(log, "could not write yet why rows wait; the sweep will"));
  }
}

/** A worker must be able to start while a table is locked. */
function unlessLocked(log: Log, message: string): (error: unknown) => void {
  return (error) => {
    if (!isTimeLimit(error)) throw error;
    log.warn({ reason: messageOf(error) }, message);
  };
}

/** Runs the row that a payload names; see runJob. */
export type RunRow = (payload: unknown) => Promise<void>;

/** The jobs among the tasks, by task name. Throws if a job's table is not a job table, or is another task's. */
export async function makeJobs(runtime: Runtime, tasks: Tasks): Promise<Map<string, RunRow>> {
  const tables = await readJobTables(runtime.pool);
  const jobs = new Map<string, RunRow>();
  for (const [name, task] of tasks) {
    if (task.kind !== "job") continue;
    const known = tableOf(name, task, tables);
    const { load = known.load, bulk } = task.definition;
    const missingCredentials = missingCredentialsOf(task, runtime.config);
    const table: JobTable = { ...known, load, loadBulk: bulk?.load ?? null, missingCredentials };
    jobs.set(name, (payload) => runJob(runtime, task, table, payload));
  }
  return jobs;
}

/** The handlers that graphile-worker calls, by task name. Jobs use the runtime's pool, other tasks `taskPool`. */
export async function makeTaskList(
  runtime: Runtime,
  taskPool: pg.Pool,
  tasks: Tasks,
  waiting: ReadonlyMap<string, string>,
): Promise<TaskList> {
  const { config, log } = runtime;
  const list: TaskList = {};
  for (const [name, run] of await makeJobs(runtime, tasks)) {
    list[name] = (payload, helpers) =>
      run(payload).catch((error: unknown) => {
        if (!(error instanceof HeldUpError)) throw error;
        return queueAgain(helpers, name, payload);
      });
  }
  for (const [name, task] of tasks) {
    if (task.kind === "job") continue;
    list[name] = async (payload, helpers) => {
      const signal = helpers.abortSignal ?? new AbortController().signal;
      await task.run(payload, { config, log, pool: taskPool, helpers, signal, waiting });
    };
  }
  return list;
}

/**
 * Queues a second job for a row that is left alone for now, under the key that a claim uses for rows that it could not
 * lock. If the job failed instead, graphile-worker would try it again with delays that grow without a useful bound.
 */
async function queueAgain({ job, addJob }: JobHelpers, task: string, payload: unknown): Promise<void> {
  if (job.key === null) return; // A newer job of the row exists.
  const runAt = new Date(Date.now() + AGAIN_AFTER_MS * (1 + Math.random()));
  await addJob(task, payload, { jobKey: job.key.replace(/(:again)?$/, ":again"), runAt, priority: job.priority });
}

async function readJobTables(pool: pg.Pool): Promise<Map<string, JobTableRow>> {
  const { rows } = await pool.query<JobTableRow>(
    `select table_name, task_identifier, effect_is_idempotent, time_limit_ms, load, missing_columns
     from brainops_internal.load_job_tables()`,
  );
  return new Map(rows.map((row) => [row.table_name, row]));
}

function tableOf(name: string, job: Job, tables: ReadonlyMap<string, JobTableRow>): JobTableRow {
  const table = tables.get(job.definition.table);
  if (table === undefined || table.task_identifier !== name) {
    throw new Error(
      table === undefined
        ? `task ${name}: ${job.definition.table} is not a job table; make it one with brainops.define_job_table`
        : `task ${name}: the rows of ${table.table_name} go to the task ${table.task_identifier}`,
    );
  }
  if (table.missing_columns.length > 0) {
    throw new Error(
      `task ${name}: ${table.table_name} lacks ${table.missing_columns.join(", ")}; add what brainops.job_columns defines`,
    );
  }
  return table;
}
