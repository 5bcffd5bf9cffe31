// Keeps graphile-worker running. It ends its run when Postgres restarts, when its backends are
// killed, and on a NOTIFY that any role can send (worker:migrate), and then leaves its jobs locked.
// So the end of a run is an expected event here: unlock its jobs and start the next run, after a
// delay that grows while runs keep ending.
import { EventEmitter } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { parseCrontab, run, type Runner, type TaskList, type WorkerEvents } from "graphile-worker";
import type pg from "pg";
import { messageOf } from "../errors.ts";
import { graphileLogger } from "../telemetry/graphileLogger.ts";
import type { Log } from "../telemetry/log.ts";
import { recordRunnerRestart } from "../telemetry/metrics.ts";
import type { Liveness } from "./liveness.ts";

export interface RunnerOptions {
  readonly createPool: () => pg.Pool;
  readonly taskList: TaskList;
  /** Lines of crontab. Empty for none. */
  readonly crontab: string;
  /** Maximum number of jobs that run at once. */
  readonly concurrency: number;
  readonly liveness: Liveness;
  /** Whether crontab lines fire from the start. */
  readonly cron: boolean;
  readonly log: Log;
}

export interface SupervisedRunner {
  /** Ends the current run, whatever its state, and starts another. No effect while a restart is under way. */
  restart(reason: string): void;
  /** Whether crontab lines fire. With a wrong clock they would fire at the wrong time, for all workers. */
  setCron(enabled: boolean): void;
  /** Starts no more jobs. Resolves when none is running, or after graceMs milliseconds. */
  stop(graceMs: number): Promise<void>;
}

// Short, because any role can end runs by NOTIFY again and again. A start that fails waits longer (startAgain).
const MAX_DELAY_MS = 1000;
// How long to wait for a broken run to stop. It may never stop, because no answers arrive on its dead connections.
const BROKEN_PATIENCE_MS = 2000;

/** Starts graphile-worker and keeps it running. Throws if the first start fails. */
export async function superviseRunner(options: RunnerOptions): Promise<SupervisedRunner> {
  const state = { stopping: false, cron: options.cron, wake: new AbortController() };
  let current = await startRun(options, state.cron);

  const supervise = async (): Promise<void> => {
    let delayMs = 100;
    // Loops once more after stop(), to stop a run that started in the meantime.
    for (;;) {
      const began = performance.now();
      const reason = await ended(current, state.wake.signal);
      await retire(options, current, state.stopping ? null : BROKEN_PATIENCE_MS);
      if (state.stopping) return;
      recordRunnerRestart();
      // graphile-worker sets exit code 57 on worker:migrate, but this process keeps running.
      process.exitCode = undefined;
      delayMs = performance.now() - began > 30_000 ? 100 : Math.min(delayMs * 2, MAX_DELAY_MS);
      options.log.warn({ reason, delayMs }, "graphile-worker stopped; restarting it");
      current = await startAgain(options, state, delayMs);
      // A restart that was requested in the meantime concerned the run that has ended. A stop still applies.
      state.wake = new AbortController();
      if (state.stopping) state.wake.abort("stopping");
    }
  };
  const supervision = supervise().catch((error: unknown) => {
    if (!state.stopping)
      options.log.fatal({ err: error }, "the supervisor of graphile-worker failed; this worker runs no more jobs");
  });

  return {
    restart: (reason) => state.wake.abort(reason),
    setCron: (enabled) => {
      if (state.cron === enabled) return;
      state.cron = enabled;
      state.wake.abort(enabled ? "clock skew is gone: crontab enabled" : "clock skew: crontab disabled");
    },
    stop: async (graceMs) => {
      state.stopping = true;
      state.wake.abort("stopping");
      await Promise.race([supervision, sleep(graceMs, undefined, { ref: false })]);
    },
  };
}

interface Run {
  readonly runner: Runner;
  readonly pool: pg.Pool;
  readonly poolIds: ReadonlySet<string>;
  /** Resolves with the reason when the run begins to shut down, which may be long before it ends. */
  readonly shutsDown: Promise<string>;
}

async function startRun(options: RunnerOptions, cron: boolean): Promise<Run> {
  const pool = options.createPool();
  const poolIds = new Set<string>();
  const events: WorkerEvents = new EventEmitter();
  events.on("pool:create", ({ workerPool }) => {
    poolIds.add(workerPool.id);
    // If the worker crashes before this is written, the sweep unlocks the pool's jobs.
    options.liveness.addPool(workerPool.id).catch((error: unknown) => {
      options.log.warn({ reason: messageOf(error) }, "could not record a graphile-worker pool yet");
    });
  });
  const shutsDown = new Promise<string>((resolve) => {
    events.on("pool:gracefulShutdown", ({ message }) => resolve(message));
  });
  try {
    const runner = await run({
      pgPool: pool,
      taskList: options.taskList,
      parsedCronItems: parseCrontab(cron ? options.crontab : ""),
      noHandleSignals: true,
      logger: graphileLogger(options.log),
      events,
      preset: {
        worker: {
          concurrentJobs: options.concurrency,
          // Does not limit the pool above, which is smaller: handlers claim and settle through the worker's own pool.
          maxPoolSize: options.concurrency,
          pollInterval: 1000,
          // No larger than needed to keep every slot busy: jobs in the local queue are not reordered by priority.
          localQueue: { size: options.concurrency * 2 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
          gracefulShutdownAbortTimeout: 60_000,
        },
      },
    });
    runner.promise.catch(() => {
      // `ended` handles it. This catch only keeps it from being an unhandled rejection.
    });
    return { runner, pool, poolIds, shutsDown };
  } catch (error) {
    await pool.end().catch(() => {});
    throw error;
  }
}

async function startAgain(
  options: RunnerOptions,
  state: { readonly stopping: boolean; readonly cron: boolean },
  firstDelayMs: number,
): Promise<Run> {
  for (let delayMs = firstDelayMs; ; delayMs = Math.min(delayMs * 2, 5000)) {
    await sleep(delayMs);
    if (state.stopping) throw new Error("stopping");
    try {
      return await startRun(options, state.cron);
    } catch (error) {
      options.log.warn({ reason: messageOf(error) }, "graphile-worker could not start; trying again");
    }
  }
}

/** Resolves with the reason when the run has ended, shuts down, or must end (`wake`). */
async function ended({ runner, shutsDown }: Run, wake: AbortSignal): Promise<string> {
  const woken = new Promise<string>((resolve) => {
    if (wake.aborted) resolve(String(wake.reason));
    wake.addEventListener("abort", () => resolve(String(wake.reason)), { once: true });
  });
  const finished = runner.promise.then(() => "it stopped without an error", messageOf);
  return Promise.race([woken, shutsDown, finished]);
}

/**
 * Stops a run and unlocks its jobs. Waits for its handlers for patienceMs milliseconds; null waits until they end.
 * Handlers that still run after that settle their rows by their leases.
 */
async function retire(
  options: RunnerOptions,
  { runner, pool, poolIds }: Run,
  patienceMs: number | null,
): Promise<void> {
  const stopped = runner
    .stop()
    .catch(() => {})
    .then(() => runner.promise.catch(() => {}));
  await (patienceMs === null ? stopped : Promise.race([stopped, sleep(patienceMs, undefined, { ref: false })]));
  // Not awaited: a client on a dead connection is returned only when its query times out.
  pool.end().catch(() => {});
  for (const poolId of poolIds) options.liveness.retirePool(poolId);
}
