// graphile-worker's log lines, handed on to ours.
import { Logger } from "graphile-worker";

/** What graphile-worker is told to write to: a pino logger, or anything shaped like one. */
interface LogTarget {
  debug(fields: object, message: string): void;
  warn(fields: object, message: string): void;
}

export function graphileLogger(target: LogTarget): Logger {
  return new Logger(() => (level, message, meta) => {
    const error = meta?.["error"];
    const fields = error === undefined ? {} : { err: error };
    // Its errors are what the supervisor mends, its warnings tuning advice, its "info" one line a job.
    if (level === "error") target.warn(fields, message);
    else target.debug(fields, message);
  });
}

export function quietLogger(): Logger {
  return new Logger(() => () => {});
}
