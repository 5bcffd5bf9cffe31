import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { ProgramTooOldError, requireRelease } from "../db/migrate/release.ts";
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
      const connectionString = requireDatabaseUrl(config);
      await refuseIfTooOld(connectionString);
      const server = await startHttpServer({ config, log, connectionString });
      catchStrays(log, () => {});
      log.info({ url: server.url }, "serving");
      await untilStopped(log);
      await server.close();
      log.info("stopped");
    });
}

/** Checks only that. If the database is unreachable or not migrated, the server starts, and /readyz reports it. */
async function refuseIfTooOld(connectionString: string): Promise<void> {
  await requireRelease(connectionString).catch((error: unknown) => {
    if (error instanceof ProgramTooOldError) throw error;
  });
}
