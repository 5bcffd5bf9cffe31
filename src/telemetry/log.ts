// The log: JSON lines for machines, one short line each for a person at a terminal.
import { pino, type Logger } from "pino";
import pretty from "pino-pretty";

export type Log = Logger;

export interface LogOptions {
  readonly level: string;
  /** Short coloured lines instead of JSON. */
  readonly human: boolean;
}

/** Writes to stderr, so that stdout stays what a command prints. */
export function createLog(options: LogOptions): Log {
  const settings = {
    level: options.level,
    // Last line of defence: nothing below should hold a secret or a person's data.
    redact: ["*.password", "*.apiKey", "*.authorization", "*.headers.authorization"],
  };
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
