// Plain graphile-worker with a no-op task, for comparison.
import { EventEmitter, once } from "node:events";
import { Logger, run, type Runner } from "graphile-worker";
import pg from "pg";

const quiet = new Logger(() => () => {});

export interface PeerOptions {
  readonly url: string;
  readonly concurrency: number;
  /** Uses the local queue and batched completion, which its documentation recommends for throughput. */
  readonly batched: boolean;
  readonly task: (payload: unknown) => Promise<void>;
}

export async function startPeer(options: PeerOptions): Promise<Runner> {
  const pool = new pg.Pool({ connectionString: options.url, max: 10 });
  pool.on("error", () => {});
  pool.on("connect", (client) => client.on("error", () => {}));
  const events = new EventEmitter();
  const runner = await run({
    pgPool: pool,
    taskList: { peer__noop: options.task },
    parsedCronItems: [],
    noHandleSignals: true,
    logger: quiet,
    events,
    preset: {
      worker: {
        concurrentJobs: options.concurrency,
        maxPoolSize: options.concurrency,
        pollInterval: 1000,
        ...(options.batched
          ? { localQueue: { size: options.concurrency }, completeJobBatchDelay: 0, failJobBatchDelay: 0 }
          : {}),
      },
    },
  });
  void runner.promise.finally(() => pool.end());
  return runner;
}

/** Adds $1 jobs with payloads and keys like ours, in one call of add_jobs. */
export const addPeerJobs = `
  select count(*) from graphile_worker.add_jobs(array(
    select row(
      'peer__noop',
      json_build_object('id', gen_random_uuid(), 'tenant_id', $2::text),
      null, now(), null,
      $2::text || ':bench_jobs:' || gen_random_uuid(),
      50, null
    )::graphile_worker.job_spec
    from generate_series(1, $1::int)
  ))
`;

/** A task, and a promise that resolves when the task has run n times. */
export function countdown(n: number): { task: () => Promise<void>; done: Promise<unknown> } {
  const events = new EventEmitter();
  let left = n;
  return {
    task: async () => {
      left -= 1;
      if (left === 0) events.emit("done");
    },
    done: once(events, "done"),
  };
}
