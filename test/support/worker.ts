// A worker in the test's process, configured for the SendGrid simulator.
import { loadConfig, type Config } from "../../src/config.ts";
import { startWorker, type Worker, type WorkerOptions } from "../../src/jobs/worker.ts";
import { createLog } from "../../src/telemetry/log.ts";
import type { SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import type { TestDatabase } from "./database.ts";

export const log = createLog({ level: process.env["TEST_LOG"] ?? "silent", human: true });

/** A configuration that uses the simulator; null: without SendGrid. */
export function testConfig(simulator: SendgridSimulator | null, more: Record<string, string> = {}): Config {
  const sendgrid =
    simulator === null
      ? {}
      : {
          SENDGRID_API_KEY: "SG.simulator",
          SENDGRID_BASE_URL: simulator.url,
          SENDGRID_WEBHOOK_PUBLIC_KEY: simulator.publicKey,
          MAIL_FROM: "Test <test@sender.example>",
        };
  return loadConfig({ PUBLIC_URL: "https://ops.example", ...sendgrid, ...more });
}

/** Starts a worker with the rights of a worker's login. The test must stop it. */
export function startTestWorker(
  db: TestDatabase,
  simulator: SendgridSimulator | null,
  options: Partial<WorkerOptions> = {},
): Promise<Worker> {
  return startWorker({
    connectionString: db.urlOf("worker"),
    config: testConfig(simulator),
    log,
    concurrency: 20,
    ...options,
  });
}
