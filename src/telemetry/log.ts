// The process's log: JSON lines, or short lines for a person at a terminal.
import { pino, type Logger } from "pino";
import pretty from "pino-pretty";
import { withoutSecrets } from "../secrets.ts";

export type Log = Logger;

export interface LogOptions {
  /** pino's level: trace, debug, info, warn, error, fatal or silent. */
  readonly level: string;
  /** Short coloured lines instead of JSON. */
  readonly human: boolean;
  /** Where lines go instead of stderr. */
  readonly destination?: { write(line: string): void };
}

/** Writes to stderr, so that stdout has only what a command prints. */
export function createLog(options: LogOptions): Log {
  const settings = {
    level: options.level,
    // A second safeguard: callers must not log secrets or personal data in the first place.
    redact: ["*.password", "*.apiKey", "*.authorization", "*.headers.authorization"],
    // A third one: an error's text may be a provider's, and contain what we sent.
    hooks: { streamWrite: withoutSecrets },
  };
  if (options.destination !== undefined) return pino(settings, options.destination);
  if (!options.human) return pino(settings, pino.destination({ dest: 2, sync: false }));
  const stream = pretty({
    destination: 2,
    colorize: process.stderr.isTTY,
    ignore: "pid,hostname",
    translateTime: "HH:MM:ss",
    sync: true,
  });
  return pino(settings, stream);
}
