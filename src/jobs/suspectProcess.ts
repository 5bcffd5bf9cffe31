// The process that runs suspects for a worker (suspects.ts), one at a time. It claims them under the worker's id,
// through connections of its own. It may die at any moment; the worker then settles the row.
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { limits } from "../db/limits.ts";
import { createPool } from "../db/pool.ts";
import { messageOf } from "../errors.ts";
import { createLog } from "../telemetry/log.ts";
import { createDeadlines } from "./deadlines.ts";
import { noHoldUps } from "./holdUps.ts";
import { loadTasks } from "./loadTasks.ts";
import type { Runtime } from "./run.ts";
import { createStore, type Store } from "./store.ts";
import type { Order, Report, SuspectOptions } from "./suspects.ts";
import { makeJobs, splitByCredentials, type RunRow } from "./taskList.ts";

const SETTLE_AFTER_ABORT_MS = 2500;

const deadlines = createDeadlines();
let jobs: Promise<Map<string, RunRow>> | null = null;

const report = (message: Report): void => {
  // The worker may be gone.
  if (process.connected) process.send?.(message);
};

async function start({
  connectionString,
  config,
  workerId,
  tasks,
  logLevel,
}: SuspectOptions): Promise<Map<string, RunRow>> {
  const log = createLog({ level: logLevel, human: process.stderr.isTTY });
  process.on("unhandledRejection", (error) => {
    // As in a worker, it does not end the process.
    log.error({ err: error }, "unhandled promise rejection in the process that runs rows alone");
  });
  const pool = createPool({
    connectionString,
    applicationName: "brainops alone",
    pipeline: true,
    max: 3,
    settings: { jit: "off" },
    limits: limits.engine,
  });
  const store = reporting(createStore(pool, workerId, noHoldUps, undefined, "claim"));
  const runtime: Runtime = { config, log, pool, store, holdUps: noHoldUps, deadlines };
  const { offered } = splitByCredentials(await loadTasks(tasks), config);
  return makeJobs(runtime, offered);
}

/** Reports when the effect may have begun, and when it has ended: the worker limits the time between the two. */
function reporting(store: Store): Store {
  return {
    ...store,
    claim: async (table, tenantId, id) => {
      const claimed = await store.claim(table, tenantId, id);
      if (claimed.length > 0) report({ kind: "claimed" });
      return claimed;
    },
    settle: (table, tenantId, claimed, result) => {
      report({ kind: "settling" });
      return store.settle(table, tenantId, claimed, result);
    },
  };
}

async function run({ task, id, tenantId }: Extract<Order, { kind: "run" }>): Promise<void> {
  try {
    const job = (await jobs)?.get(task);
    if (job === undefined) throw new Error(`this program has no job ${task}`);
    await job({ id, tenant_id: tenantId });
    report({ kind: "done" });
  } catch (error) {
    report({ kind: "done", error: messageOf(error) });
  }
}

let running = Promise.resolve();

process.on("message", (order: Order) => {
  if (order.kind === "start") jobs = start(order.options);
  else if (order.kind === "run") running = run(order);
  else deadlines.abortAll(order.reason);
});

// A signal for the whole process group is the worker's business: it drains, and ends this process.
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => {});

// The worker died. Its rows are settled by other workers after 3 s.
process.on("disconnect", async () => {
  deadlines.abortAll("the worker ended");
  await Promise.race([running, sleep(SETTLE_AFTER_ABORT_MS)]);
  process.exit(0);
});
// An effect that blocks the event loop does not notice that, and would run forever.
new Worker(
  `const worker = ${process.ppid};
   setInterval(() => {
     if (process.ppid !== worker) setTimeout(() => process.kill(process.pid, "SIGKILL"), ${SETTLE_AFTER_ABORT_MS});
   }, 1000);`,
  { eval: true },
).unref();
