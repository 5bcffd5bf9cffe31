// A command that runs until it is told to stop: SIGTERM and SIGINT drain, a second one ends at
// once; what no one caught is written down, and the worker is started anew rather than lost.
import type { Log } from "../telemetry/log.ts";

/** Resolves when the process is told to stop. */
export function untilStopped(log: Log): Promise<string> {
  return new Promise((resolve) => {
    let told = false;
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      process.on(signal, () => {
        if (told) process.exit(130);
        told = true;
        log.info({ signal }, "stopping; again to stop at once");
        resolve(signal);
      });
    }
  });
}

/** As untilStopped; throws the error where the worker gives up first. */
export async function untilStoppedOr(gaveUp: Promise<Error>, log: Log): Promise<void> {
  const end = await Promise.race([untilStopped(log), gaveUp]);
  if (end instanceof Error) throw end;
}

/**
 * Takes what nobody caught. A rejection out of graphile-worker (it does not await its own
 * completions) must not end the process: `recover` starts its run anew. Anything thrown outside a
 * promise leaves the process in an unknown state: it ends, and its rows are rescued by others.
 */
export function catchStrays(log: Log, recover: (reason: string) => void): void {
  process.on("unhandledRejection", (error) => {
    log.error({ err: error }, "a promise was rejected and nobody caught it");
    recover("unhandled rejection");
  });
  process.on("uncaughtException", (error) => {
    log.fatal({ err: error }, "an error that nobody caught");
    process.exit(70);
  });
}
