// Signals and uncaught errors of long-running commands. SIGTERM and SIGINT drain; a second signal exits at
// once.
import type { Log } from "../telemetry/log.ts";

/** Resolves with the name of the first SIGTERM or SIGINT. A second one exits with 130. */
export function untilStopped(log: Log): Promise<string> {
  return new Promise((resolve) => {
    let isStopping = false;
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        if (isStopping) process.exit(130);
        isStopping = true;
        log.info({ signal }, "stopping; send the signal again to stop at once");
        resolve(signal);
      });
    }
  });
}

/** As untilStopped, but throws the worker's error if the worker stops by itself first. */
export async function untilStoppedOr(gaveUp: Promise<Error>, log: Log): Promise<void> {
  const end = await Promise.race([untilStopped(log), gaveUp]);
  if (end instanceof Error) throw end;
}

/**
 * Handles uncaught errors. An unhandled rejection can come from graphile-worker, which does not await its
 * own completions; it must not end the process, so `recover` restarts graphile-worker's run. An uncaught
 * exception leaves the process in an unknown state: it exits with 70, and other workers rescue its rows.
 */
export function catchStrays(log: Log, recover: (reason: string) => void): void {
  process.on("unhandledRejection", (error) => {
    log.error({ err: error }, "unhandled promise rejection");
    recover("unhandled rejection");
  });
  process.on("uncaughtException", (error) => {
    log.fatal({ err: error }, "uncaught exception");
    process.exit(70);
  });
}
