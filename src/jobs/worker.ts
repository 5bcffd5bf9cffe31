// A worker process: its sign of life, its graphile-worker run, its way to claim and settle.
import { randomUUID } from "node:crypto";
import type { TaskList } from "graphile-worker";
import type pg from "pg";
import { missingVariables, type Config } from "../config.ts";
import { createPool } from "../db/pool.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import { createDeadlines } from "./deadlines.ts";
import type { Job } from "./define.ts";
import { startLiveness } from "./liveness.ts";
import { loadTasks, type LoadedTask } from "./loadTasks.ts";
import { runJob, type Runtime } from "./run.ts";
import { superviseRunner, type SupervisedRunner } from "./runner.ts";
import { createStore, type JobTable, type Lacks } from "./store.ts";

export interface WorkerOptions {
  readonly connectionString: string;
  readonly config: Config;
  readonly log: Log;
  /** Folders with more tasks, beside tasks/ of this installation. */
  readonly tasks?: readonly string[];
  /** Lines of crontab. @default none */
  readonly crontab?: string;
  /** Rows in hand at once. @default 50 */
  readonly concurrency?: number;
}

export interface Worker {
  readonly id: string;
  /** Whether it is able to work right now; why not, in words, where it is not. */
  health(): { ok: boolean; reason?: string };
  /** Starts graphile-worker's run anew; for errors that reached nobody. */
  restart(reason: string): void;
  /** Drains: claims nothing more, waits for what is in hand. @default graceMs 25,000 */
  stop(graceMs?: number): Promise<void>;
}

// graphile-worker's cron goes by this process's clock; a worker whose clock is ahead silences the
// crontab of all others. So a clock further off than this runs none.
const MOST_SKEW_MS = 1000;

// A statement of ours that takes longer has a dead network under it.
const QUERY_TIMEOUT_MS = 8000;
const TASK_QUERY_TIMEOUT_MS = 60_000;

const GRACE_MS = 25_000;

// Compiling takes most of a second, for statements that take a fraction of that: what the planner thinks
// costly here is mostly what it was told to avoid, or arrays whose length it cannot know.
const NO_JIT = { jit: "off" } as const;

/** Starts a worker on a migrated database; resolves when it is looking for work. */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { config, log, connectionString } = options;
  const concurrency = options.concurrency ?? 50;
  const id = randomUUID();
  const pool = createPool({
    connectionString,
    applicationName: "brainops worker",
    pipeline: true,
    max: 6,
    settings: NO_JIT,
    queryTimeoutMs: QUERY_TIMEOUT_MS,
  });
  // Maintenance may take longer than a claim.
  const taskPool = createPool({
    connectionString,
    applicationName: "brainops tasks",
    max: 3,
    settings: NO_JIT,
    queryTimeoutMs: TASK_QUERY_TIMEOUT_MS,
  });
  const runtime: Runtime = { config, log, pool, store: createStore(pool, id), deadlines: createDeadlines() };

  const tables = await readJobTables(pool);
  const loaded = await loadTasks(options.tasks);
  const { offered, waiting } = splitByProvider(loaded, config);
  for (const [task, reason] of waiting) {
    log.warn({ task }, reason);
    await pool.query("select brainops.note_waiting($1, $2)", [task, reason]);
  }
  const taskList = makeTaskList(runtime, taskPool, offered, tables, waiting);
  await pool
    .query("select brainops.ensure_partitions('brainops.job_events', now()::date, 13)")
    .catch((error: unknown) => {
      log.warn(
        { reason: messageOf(error) },
        "coming months of job_events could not be made now; maintenance__retain will",
      );
    });

  let skewMs = 0;
  let supervised: SupervisedRunner | null = null;
  const liveness = await startLiveness({
    connectionString,
    workerId: id,
    tasks: Object.keys(taskList),
    log,
    onSkew: (measured) => {
      skewMs = measured;
      supervised?.setCron(Math.abs(skewMs) <= MOST_SKEW_MS);
    },
  });
  const stop = async (graceMs: number): Promise<void> => {
    await supervised?.stop(graceMs);
    // What is still running now is told to stop, and settles as its table's nature says.
    runtime.deadlines.abortAll("the worker is stopping");
    await until(() => runtime.store.inHand.size === 0, 5000);
    await liveness.stop();
    await Promise.all([pool.end(), taskPool.end()]);
  };
  let runner: SupervisedRunner;
  try {
    runner = supervised = await superviseRunner({
      createPool: () =>
        createPool({
          connectionString,
          applicationName: "brainops graphile-worker",
          max: 5,
          // Its fetch is prepared, mostly while there is no job: planned for an empty table, it would read all
          // of a full one each time, until somebody analyzes it (50,000 jobs: ten seconds for each fetch).
          settings: { enable_seqscan: "off", ...NO_JIT },
          queryTimeoutMs: QUERY_TIMEOUT_MS,
        }),
      taskList,
      crontab: options.crontab ?? "",
      concurrency,
      liveness,
      cron: Math.abs(skewMs) <= MOST_SKEW_MS,
      log,
    });
    await wakeWaiting(pool, offered, config);
    if (config.PUBLIC_URL !== undefined) {
      await pool.query("select brainops.announce_public_url($1)", [config.PUBLIC_URL]);
    }
  } catch (error) {
    // A run that nobody holds would keep this process at work, and no signal would drain it.
    await stop(GRACE_MS).catch((failure: unknown) => {
      log.warn({ reason: messageOf(failure) }, "a worker that could not start could not be stopped either");
    });
    throw error;
  }
  log.info({ worker: id, concurrency, tasks: Object.keys(taskList) }, "worker is looking for work");

  return {
    id,
    health: () => {
      if (!liveness.standing) return { ok: false, reason: "Postgres is out of reach" };
      if (Math.abs(skewMs) > MOST_SKEW_MS) {
        return {
          ok: false,
          reason: `this machine's clock differs from Postgres's by ${Math.round(skewMs)} ms; crontab stands still`,
        };
      }
      return { ok: true };
    },
    restart: (reason) => runner.restart(reason),
    stop: (graceMs = GRACE_MS) => stop(graceMs),
  };
}

async function until(condition: () => boolean, mostMs: number): Promise<void> {
  const deadline = performance.now() + mostMs;
  while (!condition() && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
}

type JobTableRow = Omit<JobTable, "lacks" | "loadBatch">;

async function readJobTables(pool: pg.Pool): Promise<Map<string, JobTableRow>> {
  // Handlers get their own columns and id, tenant and attempts; not the engine's books, whose many
  // times node-postgres would parse for nothing.
  const { rows } = await pool.query<JobTableRow>(
    `select j.table_name, j.relation, j.task_identifier, j.effect_is_idempotent, j.sender,
       (extract(epoch from j.time_limit) * 1000)::int as time_limit_ms,
       format('select %s from %s where id = any ($1)', string_agg(quote_ident(a.attname), ', '), j.relation) as load
     from brainops.job_tables as j
     inner join pg_attribute as a on a.attrelid = j.relation::regclass and a.attnum > 0 and not a.attisdropped
     where a.attname not in (
       'status', 'scheduled_for', 'job_priority', 'deferrals', 'last_error', 'skip_reason', 'lease', 'worker_id',
       'rate_slot', 'cancel_requested_at', 'started_at', 'finished_at'
     )
     group by j.table_name`,
  );
  return new Map(rows.map((row) => [row.table_name, row]));
}

/** What keeps a worker with this configuration from the accounts of a provider. */
function lacksOf(task: LoadedTask, config: Config): Lacks {
  const provider = task.kind === "job" ? task.definition.requires : undefined;
  if (provider === undefined) return { platform: null, own: null };
  const missing = missingVariables(config, provider);
  return {
    platform: missing.length === 0 ? null : `waiting: no worker has ${missing.join(" and ")} set`,
    own: config.BRAINOPS_SECRET_KEY === undefined ? "waiting: no worker has BRAINOPS_SECRET_KEY set" : null,
  };
}

/** Tasks whose rows can go through some account, and for the others the sentence their rows will show. */
function splitByProvider(
  tasks: ReadonlyMap<string, LoadedTask>,
  config: Config,
): { offered: Map<string, LoadedTask>; waiting: Map<string, string> } {
  const offered = new Map<string, LoadedTask>();
  const waiting = new Map<string, string>();
  for (const [name, task] of tasks) {
    const { platform, own } = lacksOf(task, config);
    if (platform === null || own === null) offered.set(name, task);
    else waiting.set(name, platform);
  }
  return { offered, waiting };
}

/** Rows that waited for a variable that this worker has lost their jobs when another one held them. */
async function wakeWaiting(pool: pg.Pool, tasks: ReadonlyMap<string, LoadedTask>, config: Config): Promise<void> {
  for (const task of tasks.values()) {
    if (task.kind !== "job" || task.definition.requires === undefined) continue;
    const { platform } = lacksOf(task, config);
    if (platform === null) await pool.query("select brainops.wake_rows($1)", [task.definition.table]);
  }
}

function makeTaskList(
  runtime: Runtime,
  pool: pg.Pool,
  tasks: ReadonlyMap<string, LoadedTask>,
  tables: ReadonlyMap<string, JobTableRow>,
  waiting: ReadonlyMap<string, string>,
): TaskList {
  const list: TaskList = {};
  for (const [name, task] of tasks) {
    if (task.kind === "job") {
      const known = tableOf(name, task, tables);
      const { load = known.load, batch } = task.definition;
      const table = { ...known, load, loadBatch: batch?.load ?? null, lacks: lacksOf(task, runtime.config) };
      list[name] = (payload) => runJob(runtime, task, table, payload);
    } else {
      const { config, log } = runtime;
      list[name] = async (payload, helpers) => {
        const signal = helpers.abortSignal ?? new AbortController().signal;
        await task.run(payload, { config, log, pool, helpers, signal, waiting });
      };
    }
  }
  return list;
}

function tableOf(name: string, job: Job, tables: ReadonlyMap<string, JobTableRow>): JobTableRow {
  const table = tables.get(job.definition.table);
  if (table === undefined || table.task_identifier !== name) {
    throw new Error(
      table === undefined
        ? `task ${name}: ${job.definition.table} is no job table; make it one with brainops.define_job_table`
        : `task ${name}: the rows of ${table.table_name} go to the task ${table.task_identifier}`,
    );
  }
  return table;
}
