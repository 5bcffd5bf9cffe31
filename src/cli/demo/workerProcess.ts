// A worker as a process of its own: the same `brainops work` that production runs.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { z } from "zod";

export interface WorkerProcess {
  readonly pid: number;
  /** Resolves when it looks for work; rejects with its last words when it ends before. */
  readonly ready: Promise<void>;
  /** The last lines of its log. */
  readonly lastWords: readonly string[];
  /** Resolves with its exit code, null when a signal ended it. */
  readonly exited: Promise<number | null>;
  /** No chance to clean up: as when the power fails. */
  kill(): void;
  /** SIGTERM: it drains and ends. One that has not within the time is killed. */
  stop(withinMs: number): Promise<number | null>;
}

/** The command line: .ts from the sources, .js from dist/. */
export const bin = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "../brainops.ts" : "../brainops.js", import.meta.url),
);

const line = z.object({ msg: z.string() });
const LAST_WORDS = 20;

/** Starts it with these variables and no others: a key of the caller's own never gets there. */
export function startWorkerProcess(env: Readonly<Record<string, string>>, concurrency: number): WorkerProcess {
  const child = spawn(process.execPath, [bin, "work", "--concurrency", String(concurrency)], {
    env,
    stdio: ["ignore", "ignore", "pipe"],
  });
  const killed = (): void => void child.kill("SIGKILL");
  process.once("exit", killed);
  const words: string[] = [];
  const ready = Promise.withResolvers<void>();
  createInterface({ input: child.stderr }).on("line", (text) => {
    words.push(text);
    if (words.length > LAST_WORDS) words.shift();
    if (messageIn(text) === "worker is looking for work") ready.resolve();
  });
  const exited = once(child, "close").then(([code]) => {
    process.off("exit", killed);
    ready.reject(new Error(`The worker ended before it was ready (${String(code)}):\n${words.join("\n")}`));
    return typeof code === "number" ? code : null;
  });
  // Whoever waits hears of it; where nobody does, it is no error.
  ready.promise.catch(() => {});
  return {
    pid: child.pid ?? 0,
    ready: ready.promise,
    lastWords: words,
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
