// graphile-worker's log lines, handed on to ours.
import { Logger } from "graphile-worker";

/** What graphile-worker is told to write to: a pino logger, or anything shaped like one. */
export interface LogTarget {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export function graphileLogger(target: LogTarget): Logger {
  return new Logger(() => (level, message, meta) => {
    const error = meta?.["error"];
    const fields = error === undefined ? {} : { err: error };
    if (level === "error") target.error(fields, message);
    else if (level === "warning") target.warn(fields, message);
    else target.debug(fields, message); // its "info" is one line a job
  });
}

export function quietLogger(): Logger {
  return new Logger(() => () => {});
}
