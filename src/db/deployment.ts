// A deployment replaces functions under programs that are running. Functions are replaced in one transaction, so each
// call finds the old one or the new one; but a call that was planned before may meet the change half way, and where a
// signature is gone, programs of the release before call it until they are replaced themselves. So a call that fails
// for that reason is made again, on another connection, for as long as a deployment takes; only then does the program
// not fit the database. An effect that has happened is never given up as unconfirmed because of a deployment.
import { setTimeout as sleep } from "node:timers/promises";
import { codeOf, messageOf } from "../errors.ts";

// How long a function may be missing.
const PATIENCE_MS = 60_000;

/** Where time comes from; in milliseconds. */
export interface DeploymentClock {
  now(): number;
  sleep(ms: number): Promise<unknown>;
}

const realClock: DeploymentClock = { now: () => performance.now(), sleep: (ms) => sleep(ms) };

/** A function of ours that this program calls has been missing, or returning something else, for a minute. */
export class FunctionGoneError extends Error {
  override name = "FunctionGoneError";
}

/** Whether a call failed because a function of ours was replaced or dropped: its transaction may be run again, on another connection. */
export function isFunctionReplaced(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  switch (codeOf(error)) {
    // Undefined function; by its name, or by its OID where it was dropped after the statement was parsed. A function
    // that is not ours is a mistake in a task, which no patience cures.
    case "42883":
      return /\bbrainops(?:_internal)?\.|\bOID \d+/.test(error.message);
    // "cached plan must not change result type": a prepared statement of this connection is out of date. Other
    // features that are not supported have this code as well.
    case "0A000":
      return "routine" in error && error.routine === "RevalidateCachedQuery";
    // Dropped after the statement was planned. Postgres does not translate this message.
    case "XX000":
      return error.message.startsWith("cache lookup failed for function");
    default:
      return false;
  }
}

export interface DeploymentGrace {
  /** True: the call may be made again. False: the error has another cause. Throws a FunctionGoneError when it has lasted for more than 60 s. */
  allows(error: unknown): boolean;
  /** After a call that succeeded. */
  reset(): void;
}

/** The time that a call has while functions are replaced; `now` in milliseconds. */
export function createGrace(now: () => number): DeploymentGrace {
  let since: number | null = null;
  return {
    allows: (error) => {
      if (!isFunctionReplaced(error)) return false;
      since ??= now();
      if (now() - since <= PATIENCE_MS) return true;
      throw new FunctionGoneError(
        `${messageOf(error)}, for more than ${PATIENCE_MS / 1000} s: this program does not fit the database. ` +
          "Deploy the release that migrated the database; brainops doctor shows which one that is.",
        { cause: error },
      );
    },
    reset: () => {
      since = null;
    },
  };
}

/** Runs a transaction again while functions of ours are replaced under it. Throws a FunctionGoneError where that does not end; other errors as they come. */
export async function throughDeployment<T>(run: () => Promise<T>, clock: DeploymentClock = realClock): Promise<T> {
  const grace = createGrace(() => clock.now());
  for (let delayMs = 50; ; delayMs = Math.min(delayMs * 2, 2000)) {
    try {
      return await run();
    } catch (error) {
      if (!grace.allows(error)) throw error;
      await clock.sleep(delayMs);
    }
  }
}
