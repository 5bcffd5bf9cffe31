// Workers in processes of their own, for tests that kill them.
import { execFile, spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import type { RestartCommand } from "./server.ts";

const bin = fileURLToPath(new URL("../../src/cli/brainops.ts", import.meta.url));

export interface WorkerProcess {
  readonly child: ChildProcess;
  readonly pid: number;
  /** Everything it has written to stdout and stderr so far. */
  readonly output: () => string;
  /** The exit code, or the name of the signal that ended it. */
  readonly exited: Promise<number | string>;
}

/** Starts `brainops work` and resolves when it is looking for work. */
export async function startWorkerProcess(
  databaseUrl: string,
  env: Readonly<Record<string, string>>,
  args: readonly string[] = [],
): Promise<WorkerProcess> {
  const child = spawn(process.execPath, [bin, "work", "--concurrency", "20", ...args], {
    env: { PATH: process.env["PATH"] ?? "", DATABASE_URL: databaseUrl, LOG_LEVEL: "debug", ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  const ready = new Promise<void>((resolve, reject) => {
    const listen = (chunk: Buffer): void => {
      output += chunk.toString();
      if (output.includes("worker is looking for work")) resolve();
    };
    child.stderr.on("data", listen);
    child.stdout.on("data", listen);
    child.once("exit", () => reject(new Error(`the worker ended before it was ready:\n${output}`)));
  });
  const exited = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | string);
  await ready;
  return { child, pid: child.pid ?? 0, output: () => output, exited };
}

/** The environment that points a worker process at a simulator. */
export function sendgridEnv(simulator: { url: string; publicKey: string }): Record<string, string> {
  return {
    SENDGRID_API_KEY: "SG.simulator",
    SENDGRID_BASE_URL: simulator.url,
    SENDGRID_WEBHOOK_PUBLIC_KEY: simulator.publicKey,
    MAIL_FROM: "Test <test@sender.example>",
    PUBLIC_URL: "https://ops.example",
  };
}

export async function restartPostgres({ command, uid }: RestartCommand, mode: "fast" | "immediate"): Promise<void> {
  const [file = "", ...args] = command;
  await promisify(execFile)(file, [...args, mode], { uid, cwd: "/" });
}
