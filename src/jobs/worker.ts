// A worker process: its connections, its tasks, liveness, graphile-worker's run, and draining.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import type { Config } from "../config.ts";
import type { FunctionGoneError } from "../db/deployment.ts";
import { requireRelease } from "../db/migrate/release.ts";
import { limits } from "../db/limits.ts";
import { createPool } from "../db/pool.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import { createClaimReports } from "./claimReports.ts";
import { createCompletions } from "./completions.ts";
import { requireKnownTasks } from "./crontab.ts";
import { createDeadlines } from "./deadlines.ts";
import { watchFunctions } from "./functionGone.ts";
import { createHoldUps } from "./holdUps.ts";
import { startLiveness } from "./liveness.ts";
import { loadTasks } from "./loadTasks.ts";
import type { Runtime } from "./run.ts";
import { superviseRunner, type SupervisedRunner } from "./runner.ts";
import { createStore } from "./store.ts";
import { createSuspects } from "./suspects.ts";
import { explainWaiting, makeTaskList, splitByCredentials, wakeWaiting } from "./taskList.ts";

export interface WorkerOptions {
  readonly connectionString: string;
  readonly config: Config;
  readonly log: Log;
  /** Task folders besides tasks/ of this installation. @default none */
  readonly tasks?: readonly string[];
  /** Lines of crontab. @default none */
  readonly crontab?: string;
  /** Maximum number of jobs that run at once; a job may carry many rows (bulk). @default 50 */
  readonly concurrency?: number;
}

export interface Worker {
  readonly id: string;
  /** Whether the worker can process jobs right now; if not, `reason` says why. */
  health(): { ok: boolean; reason?: string };
  /** Resolves when the worker has stopped by itself because a function that it calls is gone (db/deployment.ts). */
  readonly gaveUp: Promise<FunctionGoneError>;
  /** Restarts graphile-worker's run. For errors that no caller received, such as unhandled rejections. */
  restart(reason: string): void;
  /**
   * Drains: starts no more jobs, and waits for those that run. Effects that run longer than graceMs milliseconds are
   * aborted, and have 5 s to settle. @default graceMs 25,000
   */
  stop(graceMs?: number): Promise<void>;
}

// graphile-worker's cron goes by the process's clock, and a worker whose clock is ahead stops the crontab of all
// others, because they see its times as executed already. A worker whose skew exceeds this limit runs no crontab.
const MAX_SKEW_MS = 1000;

const GRACE_MS = 25_000;
const SETTLE_AFTER_ABORT_MS = 5000;

// These statements look expensive only because seqscans are off, or because the planner cannot know
// the length of an array; so JIT would spend most of a second on compiling a statement that runs in a fraction of that
// time.
const NO_JIT = { jit: "off" } as const;

/** Starts a worker on a migrated database. Resolves when it processes jobs. */
export async function startWorker(options: WorkerOptions): Promise<Worker> {
  const { config, log, connectionString } = options;
  const tasks = await loadTasks(options.tasks);
  requireKnownTasks(options.crontab ?? "", tasks);
  await requireRelease(connectionString);
  const concurrency = options.concurrency ?? 50;
  const id = randomUUID();
  const pool = createPool({
    connectionString,
    applicationName: "brainops worker",
    pipeline: true,
    max: 6,
    settings: NO_JIT,
    limits: limits.engine,
  });
  const taskPool = createPool({
    connectionString,
    applicationName: "brainops tasks",
    max: 3,
    settings: NO_JIT,
    limits: limits.task,
  });
  const suspects = createSuspects(pool, log, {
    connectionString,
    config,
    workerId: id,
    tasks: options.tasks ?? [],
    logLevel: log.level,
  });
  const completions = createCompletions(taskPool, log);
  const reports = createClaimReports(taskPool, log);
  const holdUps = createHoldUps(log);
  const store = createStore(pool, id, holdUps, reports, suspects.add);
  const runtime: Runtime = { config, log, pool, store, holdUps, deadlines: createDeadlines() };

  const { offered, waiting } = splitByCredentials(tasks, config);
  await explainWaiting(runtime, waiting);
  const functions = watchFunctions();
  const taskList = functions.watch(await makeTaskList(runtime, taskPool, offered, waiting));
  await ensurePartitions(pool, log);

  let skewMs = 0;
  let supervised: SupervisedRunner | null = null;
  const liveness = await startLiveness({
    connectionString,
    workerId: id,
    tasks: Object.keys(taskList),
    log,
    onError: functions.report,
    onSkew: (measured) => {
      skewMs = measured;
      supervised?.setCron(Math.abs(skewMs) <= MAX_SKEW_MS);
    },
  });
  let stopping: Promise<void> | null = null;
  const stop = (graceMs: number): Promise<void> => (stopping ??= drain(graceMs));
  const drain = async (graceMs: number): Promise<void> => {
    const suspectEnded = suspects.stop(graceMs);
    await supervised?.stop(graceMs);
    // Aborted rows settle with what their effect knows, or as retry or unconfirmed.
    runtime.deadlines.abortAll("the worker is stopping");
    await until(() => runtime.store.inFlight.size === 0, SETTLE_AFTER_ABORT_MS);
    await suspectEnded;
    completions.stop();
    reports.stop();
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
          // graphile-worker prepares its fetch, usually while no job exists. A plan that was made for an empty table
          // reads the whole table when it is full, until the next analyze (with 50,000 jobs, ten seconds for each
          // fetch).
          settings: { enable_seqscan: "off", ...NO_JIT },
          limits: limits.runner,
          around: completions.send,
        }),
      taskList,
      crontab: options.crontab ?? "",
      concurrency,
      liveness,
      cron: Math.abs(skewMs) <= MAX_SKEW_MS,
      log,
    });
    await wakeWaiting(runtime, offered);
    if (config.PUBLIC_URL !== undefined) {
      await pool.query("select brainops.announce_public_url($1)", [config.PUBLIC_URL]);
    }
  } catch (error) {
    // The caller gets no worker that it could stop, and a run that is still active would keep the process alive.
    await stop(GRACE_MS).catch((failure: unknown) => {
      log.warn({ reason: messageOf(failure) }, "could not stop the worker that failed to start");
    });
    throw error;
  }
  log.info({ worker: id, concurrency, tasks: Object.keys(taskList) }, "worker is looking for work");

  return {
    id,
    gaveUp: functions.gone.then(async (error) => {
      log.fatal({ err: error }, "the worker is stopping, because functions that it calls are missing");
      await stop(GRACE_MS).catch(() => {});
      return error;
    }),
    health: () => {
      if (functions.problem !== null) return { ok: false, reason: functions.problem };
      if (!liveness.standing) return { ok: false, reason: "Postgres is unreachable" };
      if (reports.problem !== null) return { ok: false, reason: reports.problem };
      if (Math.abs(skewMs) > MAX_SKEW_MS) {
        const skew = `${Math.round(skewMs)} ms`;
        return {
          ok: false,
          reason: `this machine's clock differs from Postgres's by ${skew}; crontab does not run here`,
        };
      }
      return { ok: true };
    },
    restart: (reason) => runner.restart(reason),
    stop: (graceMs = GRACE_MS) => stop(graceMs),
  };
}

/** For a worker that starts after months without maintenance: job_events needs a partition for the current month. */
async function ensurePartitions(pool: pg.Pool, log: Log): Promise<void> {
  try {
    await pool.query("select brainops_internal.ensure_partitions('brainops.job_events', now()::date, 13)");
  } catch (error) {
    log.warn({ reason: messageOf(error) }, "could not create partitions of job_events; maintenance__retain will");
  }
}

async function until(condition: () => boolean, maxMs: number): Promise<void> {
  const deadline = performance.now() + maxMs;
  while (!condition() && performance.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 20));
}
