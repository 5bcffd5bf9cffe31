// A worker in its own process: `brainops work`, as in production.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";

export interface WorkerProcess {
  readonly pid: number;
  /** Resolves when the worker looks for work; rejects with the end of its log if it exits before. */
  readonly ready: Promise<void>;
  /** The last lines of its log. */
  readonly logTail: readonly string[];
  /** Resolves with the exit code; null if a signal ended the process. */
  readonly exited: Promise<number | null>;
  /** Sends SIGKILL: the worker cannot clean up, as in a power failure. */
  kill(): void;
  /** Sends SIGTERM, so that the worker drains and exits; kills it after `withinMs`. */
  stop(withinMs: number): Promise<number | null>;
}

/** The executable: .ts in the sources, .js in dist/. */
export const bin = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "../brainops.ts" : "../brainops.js", import.meta.url),
);

const line = z.object({ msg: z.string() });
const MAX_LOG_TAIL = 20;

/** Starts a worker with these variables only, so that no real provider key is inherited. */
export function startWorkerProcess(env: Readonly<Record<string, string>>, concurrency: number): WorkerProcess {
  const child = spawn(process.execPath, [bin, "work", "--concurrency", String(concurrency)], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const killed = (): void => void child.kill("SIGKILL");
  process.once("exit", killed);
  const logTail: string[] = [];
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stderr }).on("line", (text) => {
    logTail.push(text);
    if (logTail.length > MAX_LOG_TAIL) logTail.shift();
    if (messageIn(text) === "worker is looking for work") ready.resolve();
  });
  const exited = once(child, "close").then(([code]) => {
    process.off("exit", killed);
    ready.reject(new Error(`The worker ended before it was ready (${String(code)}):\n${logTail.join("\n")}`));
    return typeof code === "number" ? code : null;
  });
  // Prevents an unhandled rejection if nothing awaits `ready`.
  ready.promise.catch(() => {});
  return {
    pid: child.pid ?? 0,
    ready: ready.promise,
    logTail,
    exited,
    kill: killed,
    stop: async (withinMs) => {
      child.kill("SIGTERM");
      const timer = setTimeout(killed, withinMs);
      return exited.finally(() => clearTimeout(timer));
    },
  };
}

function messageIn(text: string): string | null {
  try {
    return line.safeParse(JSON.parse(text)).data?.msg ?? null;
  } catch {
    return null;
  }
}
