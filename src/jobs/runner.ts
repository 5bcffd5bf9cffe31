// Keeps graphile-worker running. It ends its run when Postgres restarts, when its backends are
// killed, and on a NOTIFY that any role can send (worker:migrate); it leaves its jobs locked then.
// So its end is an event like any other here: free what it held, start it again, with a pause that
// grows while it keeps ending.
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
  /** Lines of crontab; empty runs none. */
  readonly crontab: string;
  /** Rows in hand at once. */
  readonly concurrency: number;
  readonly liveness: Liveness;
  /** Whether crontab runs from the start. */
  readonly cron: boolean;
  readonly log: Log;
}

export interface SupervisedRunner {
  /** Ends the current run, whatever state it is in, and starts another. */
  restart(reason: string): void;
  /** Crontab lines fire only while true: a clock that is off would fire them at the wrong time, for everybody. */
  setCron(enabled: boolean): void;
  /** Stops claiming; resolves when nothing is running, or after graceMs. */
  stop(graceMs: number): Promise<void>;
}

// A run that broke may never come to its end: its connections are dead, its answers never come.
const BROKEN_PATIENCE_MS = 2000;

export async function superviseRunner(options: RunnerOptions): Promise<SupervisedRunner> {
  const state = { stopping: false, cron: options.cron, wake: new AbortController() };
  let current = await startRun(options, state.cron);

  const supervise = async (): Promise<void> => {
    let delayMs = 100;
    // Until stopping, and once more then: a run that started meanwhile must not be left behind.
    for (;;) {
      const began = performance.now();
      const reason = await ended(current, state.wake.signal);
      await retire(options, current, state.stopping ? null : BROKEN_PATIENCE_MS);
      if (state.stopping) return;
      recordRunnerRestart();
      // graphile-worker sets 57 on a forged worker:migrate; our process is not ending.
      process.exitCode = undefined;
      delayMs = performance.now() - began > 30_000 ? 100 : Math.min(delayMs * 2, 5000);
      options.log.warn({ reason, delayMs }, "graphile-worker's run ended; starting it again");
      current = await startAgain(options, state, delayMs);
      // What called for a restart meanwhile was about the run that is gone; a call to stop was not.
      state.wake = new AbortController();
      if (state.stopping) state.wake.abort("stopping");
    }
  };
  const supervision = supervise().catch((error: unknown) => {
    if (!state.stopping) options.log.fatal({ err: error }, "the supervisor of graphile-worker failed");
  });

  return {
    restart: (reason) => state.wake.abort(reason),
    setCron: (enabled) => {
      if (state.cron === enabled) return;
      state.cron = enabled;
      state.wake.abort(enabled ? "the clock is right again: crontab runs" : "the clock is off: crontab stands still");
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
  /** Resolves when the run begins to shut down, which may be long before it has. */
  readonly shutsDown: Promise<string>;
}

async function startRun(options: RunnerOptions, cron: boolean): Promise<Run> {
  const pool = options.createPool();
  const poolIds = new Set<string>();
  const events: WorkerEvents = new EventEmitter();
  events.on("pool:create", ({ workerPool }) => {
    poolIds.add(workerPool.id);
    // A crash before this is written leaves the pool to the sweep.
    options.liveness.addPool(workerPool.id).catch((error: unknown) => {
      options.log.warn({ reason: messageOf(error) }, "a pool could not be entered yet");
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
          // Says nothing about the pool above, which is smaller: claims and settles go through ours.
          maxPoolSize: options.concurrency,
          pollInterval: 1000,
          // As large as what is in hand, no larger: jobs that wait in it are deaf to priority.
          localQueue: { size: options.concurrency * 2 },
          completeJobBatchDelay: 0,
          failJobBatchDelay: 0,
          gracefulShutdownAbortTimeout: 60_000,
        },
      },
    });
    runner.promise.catch(() => {
      // `ended` below hears of it too; here it only must not count as unhandled.
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
      options.log.warn({ reason: messageOf(error) }, "graphile-worker cannot start yet");
    }
  }
}

/** Why the run came to its end, or was told to. */
async function ended({ runner, shutsDown }: Run, wake: AbortSignal): Promise<string> {
  const woken = new Promise<string>((resolve) => {
    if (wake.aborted) resolve(String(wake.reason));
    wake.addEventListener("abort", () => resolve(String(wake.reason)), { once: true });
  });
  const finished = runner.promise.then(() => "it stopped by itself", messageOf);
  return Promise.race([woken, shutsDown, finished]);
}

/**
 * Stops what is left of a run and frees its jobs. Waits for its handlers for patienceMs (null: to
 * their end); those that run on settle by their leases all the same.
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
  // Not awaited: a client that waits for a dead connection is returned when its query times out.
  pool.end().catch(() => {});
  for (const poolId of poolIds) options.liveness.retirePool(poolId);
}
