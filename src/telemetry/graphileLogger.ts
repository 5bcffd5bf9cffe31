// Forwards graphile-worker's log to the process's log.
import { Logger } from "graphile-worker";

/** A pino logger, or anything with these methods. */
interface LogTarget {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

/** A logger for graphile-worker that writes to `target`, at lower levels. */
export function graphileLogger(target: LogTarget): Logger {
  return new Logger(() => (level, message, meta) => {
    const error = meta?.["error"];
    const fields = error === undefined ? {} : { err: error };
    // Reported once for all jobs that are held up together (jobs/holdUps.ts).
    if (error instanceof Error && error.name === "HeldUpError")
      return target.debug({}, message.split("\n", 1)[0] ?? "");
    // The supervisor recovers from errors. Warnings are tuning advice, and info is one line per job.
    if (level === "error") target.warn(fields, message);
    else target.debug(fields, message);
  });
}

/** A logger for graphile-worker that writes nothing. */
export function quietLogger(): Logger {
  return new Logger(() => () => {});
}
