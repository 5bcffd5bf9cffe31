import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { migrate } from "../db/migrate.ts";
import { startHttpServer } from "../http/server.ts";
import { createLog } from "../telemetry/log.ts";
import { openDatabase } from "./database.ts";
import { catchStrays, untilStopped } from "./lifetime.ts";
import { startWorkerFrom, withWorkFlags, type WorkFlags } from "./work.ts";

interface UpFlags extends WorkFlags {
  readonly pgPort: string;
}

export function upCommand(): Command {
  return withWorkFlags(new Command("up"))
    .description("everything in one process: database (built-in without DATABASE_URL), migrations, worker, server")
    .option("--pg-port <port>", "port of the built-in Postgres", "54329")
    .action(async (flags: UpFlags) => {
      const config = loadConfig();
      const log = createLog({ level: config.LOG_LEVEL, human: process.stderr.isTTY });
      const database = await openDatabase(config, Number(flags.pgPort));
      if (database.builtIn) {
        process.stdout.write(`The built-in Postgres listens; its data is in .brainops/. Connect with:\n\n  psql "${database.url}"\n\n`);
      }
      await migrate({ connectionString: database.url, log: (line) => log.info(line) });
      const worker = await startWorkerFrom(flags, config, database.url, log);
      const server = await startHttpServer({
        config,
        log,
        connectionString: database.url,
        workerHealth: () => worker.health(),
      });
      catchStrays(log, (reason) => worker.restart(reason));
      log.info({ url: server.url }, "up");
      await untilStopped(log);
      await server.close();
      await worker.stop();
      await database.close();
      log.info("stopped");
    });
}
