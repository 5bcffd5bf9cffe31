import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { startHttpServer } from "../http/server.ts";
import { createLog } from "../telemetry/log.ts";
import { requireDatabaseUrl } from "./database.ts";
import { catchStrays, untilStopped } from "./lifetime.ts";

export function serveCommand(): Command {
  return new Command("serve")
    .description("serve webhooks, unsubscribe links, health and metrics for DATABASE_URL on PORT")
    .action(async () => {
      const config = loadConfig();
      const log = createLog({ level: config.LOG_LEVEL, human: process.stderr.isTTY });
      const server = await startHttpServer({ config, log, connectionString: requireDatabaseUrl(config) });
      catchStrays(log, () => {});
      log.info({ url: server.url }, "serving");
      await untilStopped(log);
      await server.close();
      log.info("stopped");
    });
}
