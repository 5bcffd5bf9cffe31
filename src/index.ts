// What programs that build on BrainOps import: tasks of their own, workers in their own process.
//
// - tenant: a customer of the installation; a row of tenants
// - job: the work of one row of a job table (brainops.job_tables); ends in an Outcome
// - task: work that crontab or a trigger sets off, without a row; a file in tasks/ that is no job
// - claim: a worker takes a due row under a lease; settle: it writes how the effect ended
// - gate: what may hold a row back at the moment of the claim (sql/0004, sql/0009)
export { defineJob, defineTask, type JobContext, type JobRow, type TaskContext } from "./jobs/define.ts";
export type { Outcome } from "./jobs/outcome.ts";
export { startWorker, type Worker, type WorkerOptions } from "./jobs/worker.ts";
export { migrate, MigrationError, migrationsDirectory, type MigrateOptions } from "./db/migrate/index.ts";
export { loadConfig, type Config } from "./config.ts";
export { BrainOpsError, errorCodes, type ErrorCode } from "./errors.ts";
export { createLog } from "./telemetry/log.ts";
