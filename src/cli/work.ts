import { readFile } from "node:fs/promises";
import { Command, InvalidArgumentError } from "commander";
import { loadConfig, type Config } from "../config.ts";
import { startWorker, type Worker } from "../jobs/worker.ts";
import { createLog, type Log } from "../telemetry/log.ts";
import { requireDatabaseUrl } from "./database.ts";
import { catchStrays, untilStoppedOr } from "./lifetime.ts";

export interface WorkFlags {
  readonly concurrency: number;
  readonly tasks: readonly string[];
  readonly crontab: readonly string[];
}

const crontabPath = new URL("../crontab", import.meta.url);

/** The flags of every command that runs a worker. */
export function withWorkFlags(command: Command): Command {
  const collect = (value: string, all: readonly string[]): readonly string[] => [...all, value];
  return command
    .option("--concurrency <n>", "jobs that run at once, 1 to 1000", parseConcurrency, 50)
    .option("--tasks <folder>", "a folder with tasks of your own; may be given more than once", collect, [])
    .option("--crontab <file>", "a crontab of your own; may be given more than once", collect, []);
}

export function workCommand(): Command {
  return withWorkFlags(new Command("work"))
    .description("run a worker on DATABASE_URL; SIGTERM and Ctrl-C drain and stop it")
    .action(async (flags: WorkFlags) => {
      const config = loadConfig();
      const log = createLog({ level: config.LOG_LEVEL, human: process.stderr.isTTY });
      const worker = await startWorkerFrom(flags, config, requireDatabaseUrl(config), log);
      catchStrays(log, (reason) => worker.restart(reason));
      await untilStoppedOr(worker.gaveUp, log);
      await worker.stop();
      log.info("stopped");
    });
}

/** Starts a worker with the flags of the command line. */
export async function startWorkerFrom(
  flags: WorkFlags,
  config: Config,
  connectionString: string,
  log: Log,
): Promise<Worker> {
  const files = [crontabPath, ...flags.crontab];
  const crontab = await Promise.all(files.map((file) => readFile(file, "utf8")));
  return startWorker({
    connectionString,
    config,
    log,
    tasks: flags.tasks,
    crontab: crontab.join("\n"),
    concurrency: flags.concurrency,
  });
}

function parseConcurrency(value: string): number {
  const number = Number(value);
  if (!Number.isInteger(number) || number < 1 || number > 1000) {
    throw new InvalidArgumentError("expected a whole number from 1 to 1000");
  }
  return number;
}
