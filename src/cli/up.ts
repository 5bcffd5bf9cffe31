import { Command } from "commander";
import { loadConfig, type Config } from "../config.ts";
import { migrate } from "../db/migrate/index.ts";
import { startHttpServer } from "../http/server.ts";
import { createLog } from "../telemetry/log.ts";
import { openDatabase } from "./database.ts";
import { createCleanup, type Cleanup } from "./cleanup.ts";
import { freePort, startStandIns, type StandIns } from "./standIns.ts";
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
    .description("everything in one process: database (built-in without DATABASE_URL), migrations, worker, server")
    .option("--pg-port <port>", "port of the built-in Postgres", "54329")
    .option(
      "--simulator",
      "stand-ins for SendGrid, Twilio and Stripe in this process: nothing leaves the machine",
      false,
    )
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
  const world = flags.simulator ? await startStandIns(cleanup, Date.now) : null;
  const config = world === null ? loadConfig() : await simulated(world);
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
  if (world !== null) await report(world, server.url, cleanup);
  catchStrays(log, (reason) => worker.restart(reason));
  if (database.builtIn) {
    process.stdout.write(
      `The built-in Postgres is ready; its data is in .brainops/. Connect with:\n\n  psql "${database.url}"\n\n`,
    );
  }
  if (world !== null) {
    process.stdout.write(
      "Mails, texts and payment links go to stand-ins for SendGrid, Twilio and Stripe: they look sent, a link can be " +
        "paid in the browser, and nothing leaves this machine.\n\n",
    );
  }
  log.info({ url: server.url }, "up");
  await untilStoppedOr(worker.gaveUp, log);
}

/** From now on the stand-ins post what happens there, until this process ends. */
async function report(world: StandIns, serverUrl: string, cleanup: Cleanup): Promise<void> {
  world.report(serverUrl);
  const flushing = setInterval(() => void world.flush(), FLUSH_MS).unref();
  await cleanup.add(async () => clearInterval(flushing));
}

/** The environment, but with every provider's variables leading to the stand-ins, which report to this process. */
async function simulated({ env }: StandIns): Promise<Config> {
  const { PORT, MAIL_FROM, ...others } = process.env;
  const port = PORT === "0" ? String(await freePort()) : (PORT ?? DEFAULT_PORT);
  return loadConfig({
    ...others,
    ...env,
    ...(MAIL_FROM === undefined ? {} : { MAIL_FROM }),
    PORT: port,
    // Signatures cover the address that is posted to.
    PUBLIC_URL: `http://127.0.0.1:${port}`,
  });
}
