// Runs suspects, one at a time: rows that were in flight when their worker died, twice. Each runs in a process of its
// own (suspectProcess.ts), which has nothing else in flight; so if that process dies, the row is the cause, and is
// failed. The process stays for the next suspect, and ends when there is none for a while. Other rows go on here.
import { fork } from "node:child_process";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import type pg from "pg";
import type { Config } from "../config.ts";
import { insist } from "../db/insist.ts";
import { runAsTenant } from "../db/tenant.ts";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import type { JobTable } from "./types.ts";

/** What the process needs to start. */
export interface SuspectOptions {
  readonly connectionString: string;
  readonly config: Config;
  readonly workerId: string;
  /** Task folders besides tasks/ of this installation. */
  readonly tasks: readonly string[];
  readonly logLevel: string;
}

export type Order =
  | { readonly kind: "start"; readonly options: SuspectOptions }
  | { readonly kind: "run"; readonly task: string; readonly id: string; readonly tenantId: string }
  | { readonly kind: "abort"; readonly reason: string };

export type Report =
  /** The effect may have begun. */
  | { readonly kind: "claimed" }
  /** The effect has ended. */
  | { readonly kind: "settling" }
  /** The row may go, or could not. `error`: what the run threw, which leaves the row to the sweep. */
  | { readonly kind: "done"; readonly error?: string };

export interface Suspects {
  /** Runs the rows after those that wait already. Rows that wait or run are left out, and those beyond the limit. */
  add(table: JobTable, tenantId: string, ids: readonly string[]): void;
  /**
   * Starts no more rows, and waits for the one that runs: it is aborted after graceMs milliseconds, and its process
   * killed 5 s later. The rows that wait get a new job, for another worker.
   */
  stop(graceMs: number): Promise<void>;
}

interface Suspect {
  readonly table: JobTable;
  readonly tenantId: string;
  readonly id: string;
}

// A row beyond the limit gets another job from the sweep.
const MAX_WAITING = 1000;
const IDLE_MS = 10_000;
// An effect that ignores its signal is given up within 2 s (deadlines.ts), unless it blocks the event loop.
const OVERTIME_MS = 10_000;
const SETTLE_AFTER_ABORT_MS = 5000;
const SETTLE_FOR_MS = 10 * 60_000;

export function createSuspects(pool: pg.Pool, log: Log, options: SuspectOptions): Suspects {
  const waiting: Suspect[] = [];
  /** Ids of the rows that wait, and of the one that runs. */
  const known = new Set<string>();
  let child: SuspectProcess | null = null;
  let running: Promise<void> | null = null;
  let idle: NodeJS.Timeout | undefined;
  let stopping = false;

  const runAll = async (): Promise<void> => {
    clearTimeout(idle);
    for (;;) {
      const next = stopping ? undefined : waiting.shift();
      if (next === undefined) break;
      try {
        child ??= startProcess(options);
        await runOne(next, child);
      } catch (error) {
        log.error({ table: next.table.table_name, id: next.id, err: error }, "could not run a row alone");
      }
      if (child?.ended === true) child = null;
      if (!waiting.includes(next)) known.delete(next.id);
    }
    // Here and not later: a row may be added before the promise has settled.
    running = null;
    idle = setTimeout(() => {
      child?.end();
      child = null;
    }, IDLE_MS);
    idle.unref();
  };

  const runOne = async (suspect: Suspect, on: SuspectProcess): Promise<void> => {
    const { table, tenantId, id } = suspect;
    const which = { table: table.table_name, id };
    log.warn(which, "running a row alone, because it was in flight when its worker died, twice");
    const end = await on.run(table, tenantId, id);
    if (end.kind === "done") {
      if (end.error !== undefined) log.error({ ...which, reason: end.error }, "could not run a row alone");
      return;
    }
    if (end.aborted) return;
    // Something that an earlier row left behind may have ended the process: the row runs once more, in a new one.
    const again = end.earlierRuns > 0;
    const settled = await insist(
      () =>
        pool.query<{ n: number }>("select brainops_internal.settle_suspect($1, $2, $3, $4) as n", [
          table.table_name,
          options.workerId,
          end.reason,
          again,
        ]),
      SETTLE_FOR_MS,
    );
    log.error({ ...which, reason: end.reason, again }, "a row that ran alone ended its process");
    if (settled.rows[0]?.n === 1 && again) waiting.unshift(suspect);
  };

  const wake = async (table: JobTable, tenantId: string, ids: readonly string[]): Promise<void> => {
    const statement = {
      text: "select brainops_internal.enqueue_locked_rows($1, $2)",
      values: [table.table_name, ids],
    };
    await runAsTenant(pool, tenantId, [statement]).catch((error: unknown) => {
      log.warn({ table: table.table_name, reason: messageOf(error) }, "rows that must run alone wait for the sweep");
    });
  };

  return {
    add: (table, tenantId, ids) => {
      if (stopping) {
        void wake(table, tenantId, ids);
        return;
      }
      for (const id of ids) {
        if (known.has(id) || waiting.length >= MAX_WAITING) continue;
        known.add(id);
        waiting.push({ table, tenantId, id });
      }
      if (waiting.length > 0) running ??= runAll();
    },
    stop: async (graceMs) => {
      stopping = true;
      const rest = Map.groupBy(waiting.splice(0), ({ table, tenantId }) => `${table.table_name} ${tenantId}`);
      await Promise.all(
        [...rest.values()].map(async (rows) => {
          const [first] = rows;
          const ids = rows.map(({ id }) => id);
          if (first !== undefined) await wake(first.table, first.tenantId, ids);
        }),
      );
      const ended = running ?? Promise.resolve();
      await Promise.race([ended, sleep(graceMs, undefined, { ref: false })]);
      child?.abort("the worker is stopping");
      await Promise.race([ended, sleep(SETTLE_AFTER_ABORT_MS, undefined, { ref: false })]);
      clearTimeout(idle);
      child?.end();
      await Promise.race([ended, sleep(SETTLE_AFTER_ABORT_MS, undefined, { ref: false })]);
    },
  };
}

/** How a run ended. `aborted`: the process was ended by `end`. `earlierRuns`: rows that it had run before. */
type End =
  | { readonly kind: "done"; readonly error?: string }
  | { readonly kind: "died"; readonly reason: string; readonly aborted: boolean; readonly earlierRuns: number };

interface SuspectProcess {
  readonly ended: boolean;
  run(table: JobTable, tenantId: string, id: string): Promise<End>;
  /** Aborts the effect that runs. */
  abort(reason: string): void;
  /** Kills the process. */
  end(): void;
}

function startProcess(options: SuspectOptions): SuspectProcess {
  // The extension of this file: .ts from the sources, .js from dist/.
  const entry = import.meta.url.endsWith(".ts") ? "./suspectProcess.ts" : "./suspectProcess.js";
  // Structured clone, for the key in the configuration. It goes through the channel, not through the environment.
  const child = fork(fileURLToPath(new URL(entry, import.meta.url)), { serialization: "advanced" });
  let aborted = false;
  let runs = 0;
  let gone: string | null = null;
  let onReport = (_report: Report): void => {};
  const died = Promise.withResolvers<string>();
  const lost = (reason: string): void => {
    gone ??= reason;
    died.resolve(gone);
  };
  child.on("message", (report: Report) => onReport(report));
  child.on("error", (error) => lost(messageOf(error)));
  child.on("exit", (code, signal) => lost(signal === null ? `exit code ${code}` : `signal ${signal}`));
  const send = (order: Order): void => {
    // A process that has ended takes no orders; its end is reported by "exit".
    if (child.connected) child.send(order, () => {});
  };
  send({ kind: "start", options });

  return {
    get ended() {
      return gone !== null;
    },
    run: async (table, tenantId, id) => {
      const done = Promise.withResolvers<End>();
      const limitMs = table.time_limit_ms + OVERTIME_MS;
      let timer: NodeJS.Timeout | undefined;
      let overtime = false;
      onReport = (report) => {
        clearTimeout(timer);
        if (report.kind === "done") done.resolve(report);
        if (report.kind !== "claimed") return;
        timer = setTimeout(() => {
          overtime = true;
          child.kill("SIGKILL");
        }, limitMs);
      };
      send({ kind: "run", task: table.task_identifier, tenantId, id });
      const end = await Promise.race([
        done.promise,
        died.promise.then((how): End => {
          const reason = overtime ? `it did not answer ${limitMs / 1000} s after its claim` : how;
          return { kind: "died", reason, aborted, earlierRuns: runs };
        }),
      ]);
      clearTimeout(timer);
      runs += 1;
      return end;
    },
    abort: (reason) => send({ kind: "abort", reason }),
    end: () => {
      aborted = true;
      child.kill("SIGKILL");
    },
  };
}
