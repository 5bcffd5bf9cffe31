import { Command } from "commander";
import { loadConfig, type Config } from "../config.ts";
import { migrate } from "../db/migrate/index.ts";
import { startHttpServer } from "../http/server.ts";
import { createLog } from "../telemetry/log.ts";
import { openDatabase } from "./database.ts";
import { createCleanup, type Cleanup } from "./cleanup.ts";
import { freePort, startSimulators, type Simulators } from "./simulators.ts";
import { catchStrays, untilStoppedOr } from "./lifetime.ts";
import { startWorkerFrom, withWorkFlags, type WorkFlags } from "./work.ts";

const FLUSH_MS = 500;
const DEFAULT_PORT = "8080";

interface UpFlags extends WorkFlags {
  readonly pgPort: string;
  readonly simulator: boolean;
}

export function upCommand(): Command {
  return withWorkFlags(new Command("up"))
    .description("run everything in one process: database (built-in without DATABASE_URL), migrations, worker, server")
    .option("--pg-port <port>", "port of the built-in Postgres", "54329")
    .option("--simulator", "simulate SendGrid, Twilio and Stripe in this process: nothing leaves the machine", false)
    .action(up);
}

async function up(flags: UpFlags): Promise<void> {
  const cleanup = createCleanup();
  try {
    await run(flags, cleanup);
  } finally {
    await cleanup.run();
  }
}

async function run(flags: UpFlags, cleanup: Cleanup): Promise<void> {
  const simulators = flags.simulator ? await startSimulators(cleanup, Date.now) : null;
  const config = simulators === null ? loadConfig() : await simulated(simulators);
  const log = createLog({ level: config.LOG_LEVEL, human: process.stderr.isTTY });
  await cleanup.add(async () => log.info("stopped"));
  const database = await openDatabase(config, Number(flags.pgPort));
  await cleanup.add(() => database.close());
  await migrate({ connectionString: database.url, log: (line) => log.info(line) });
  const worker = await startWorkerFrom(flags, config, database.url, log);
  await cleanup.add(() => worker.stop());
  const server = await startHttpServer({
    config,
    log,
    connectionString: database.url,
    workerHealth: () => worker.health(),
  });
  await cleanup.add(() => server.close());
  if (simulators !== null) await postEvents(simulators, server.url, cleanup);
  catchStrays(log, (reason) => worker.restart(reason));
  if (database.builtIn) {
    process.stdout.write(
      `The built-in Postgres is ready; its data is in .brainops/. Connect with:\n\n  psql "${database.url}"\n\n`,
    );
  }
  if (simulators !== null) {
    process.stdout.write(
      "Mails, texts and payment links go to simulators for SendGrid, Twilio and Stripe: they look sent, a link can be " +
        "paid in the browser, and nothing leaves this machine.\n\n",
    );
  }
  log.info({ url: server.url }, "up");
  await untilStoppedOr(worker.gaveUp, log);
}

/** Lets the simulators post their events to this server until the process ends. */
async function postEvents(simulators: Simulators, serverUrl: string, cleanup: Cleanup): Promise<void> {
  simulators.setWebhooks(serverUrl);
  const flushing = setInterval(() => void simulators.flush(), FLUSH_MS).unref();
  await cleanup.add(async () => clearInterval(flushing));
}

/** The environment with the variables of every provider replaced by those of its simulator. */
async function simulated({ env }: Simulators): Promise<Config> {
  const { PORT, MAIL_FROM, ...others } = process.env;
  const port = PORT === "0" ? String(await freePort()) : (PORT ?? DEFAULT_PORT);
  return loadConfig({
    ...others,
    ...env,
    ...(MAIL_FROM === undefined ? {} : { MAIL_FROM }),
    PORT: port,
    // Webhook signatures cover the URL, so it must be known before the server listens.
    PUBLIC_URL: `http://127.0.0.1:${port}`,
  });
}
