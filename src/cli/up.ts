import { Command } from "commander";
import { loadConfig, type Config } from "../config.ts";
import { migrate } from "../db/migrate.ts";
import { startHttpServer } from "../http/server.ts";
import { startSendgridSimulator, type SendgridSimulator } from "../simulator/sendgrid/index.ts";
import { createLog } from "../telemetry/log.ts";
import { openDatabase } from "./database.ts";
import { catchStrays, untilStopped } from "./lifetime.ts";
import { startWorkerFrom, withWorkFlags, type WorkFlags } from "./work.ts";

interface UpFlags extends WorkFlags {
  readonly pgPort: string;
  readonly simulator: boolean;
}

export function upCommand(): Command {
  return withWorkFlags(new Command("up"))
    .description("everything in one process: database (built-in without DATABASE_URL), migrations, worker, server")
    .option("--pg-port <port>", "port of the built-in Postgres", "54329")
    .option("--simulator", "send mails to a stand-in for SendGrid in this process: nothing leaves the machine", false)
    .action(up);
}

async function up(flags: UpFlags): Promise<void> {
  const simulator = flags.simulator ? await startSendgridSimulator({ flushMs: 500 }) : null;
  const config = simulator === null ? loadConfig() : simulated(simulator);
  const log = createLog({ level: config.LOG_LEVEL, human: process.stderr.isTTY });
  const database = await openDatabase(config, Number(flags.pgPort));
  if (database.builtIn) {
    process.stdout.write(
      `The built-in Postgres listens; its data is in .brainops/. Connect with:\n\n  psql "${database.url}"\n\n`,
    );
  }
  if (simulator !== null) {
    process.stdout.write("Mails go to a stand-in for SendGrid: they look sent, and nothing leaves this machine.\n\n");
  }
  await migrate({ connectionString: database.url, log: (line) => log.info(line) });
  const worker = await startWorkerFrom(flags, config, database.url, log);
  const server = await startHttpServer({
    config,
    log,
    connectionString: database.url,
    workerHealth: () => worker.health(),
  });
  simulator?.setWebhook(`${server.url}/webhooks/sendgrid`);
  catchStrays(log, (reason) => worker.restart(reason));
  log.info({ url: server.url }, "up");
  await untilStopped(log);
  await server.close();
  await worker.stop();
  await simulator?.close();
  await database.close();
  log.info("stopped");
}

/** The environment, but with everything of SendGrid's leading to the stand-in. */
function simulated(simulator: SendgridSimulator): Config {
  return loadConfig({
    MAIL_FROM: "BrainOps <ops@example.com>",
    ...process.env,
    SENDGRID_API_KEY: "SG.simulator",
    SENDGRID_BASE_URL: simulator.url,
    SENDGRID_WEBHOOK_PUBLIC_KEY: simulator.publicKey,
  });
}
