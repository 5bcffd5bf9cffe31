// The public interface, for programs that add their own tasks or run a worker in their own process.
//
// - tenant: a customer of the installation; a row in the `tenants` table
// - job table: a table whose rows are work to be done once (brainops.job_tables)
// - job: the code that processes the rows of one job table; each row ends in an Outcome
// - task: a file in tasks/: a job, or code that crontab or a trigger starts without a row
// - claim: a worker takes a due row under a lease, a uuid that is unique to the claim
// - gate: the SQL function that decides, during the claim, whether the row may go out now
// - effect: the call outside the database that the row asks for, such as sending a mail
// - settle: the worker writes the outcome to the row, if its lease still holds
export { defineJob, defineTask, type JobContext, type JobRow, type TaskContext } from "./jobs/define.ts";
export { OutcomeError, type Outcome } from "./jobs/outcome.ts";
export { startWorker, type Worker, type WorkerOptions } from "./jobs/worker.ts";
export {
  ForeignTablesError,
  migrate,
  MigrationError,
  migrationsDirectory,
  ProgramTooOldError,
  type MigrateOptions,
  type MigrateReport,
} from "./db/migrate/index.ts";
export { loadConfig, type Config } from "./config.ts";
export { BrainOpsError, errorCodes, type ErrorCode } from "./errors.ts";
export { createLog } from "./telemetry/log.ts";
