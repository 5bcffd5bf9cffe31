// A worker and a SendGrid to send to, inside the test's process.
import { loadConfig, type Config } from "../../src/config.ts";
import { startWorker, type Worker, type WorkerOptions } from "../../src/jobs/worker.ts";
import { createLog } from "../../src/telemetry/log.ts";
import type { SendgridSimulator } from "../../src/simulator/sendgrid/index.ts";
import type { TestDatabase } from "./database.ts";

export const log = createLog({ level: process.env["TEST_LOG"] ?? "silent", human: true });

/** A configuration that leads to the simulator, or with null one without SendGrid. */
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

/** A worker with the rights of a worker's login. Stop it in the test. */
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
