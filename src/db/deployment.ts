// A deployment replaces functions while programs are running. It does so in one transaction, so each call finds either
// the old function or the new one. A call can still fail: if its plan is older than the change, or if a signature was
// dropped that programs of the previous release call until they are replaced too. Such a call is retried on another
// connection, for as long as a deployment takes. After that, the program counts as incompatible with the database. A
// deployment never makes a row whose effect has happened unconfirmed.
import { setTimeout as sleep } from "node:timers/promises";
import { codeOf, messageOf } from "../errors.ts";

// How long a function may be missing.
const PATIENCE_MS = 60_000;

/** The clock, in milliseconds. */
export interface DeploymentClock {
  now(): number;
  sleep(ms: number): Promise<unknown>;
}

const realClock: DeploymentClock = { now: () => performance.now(), sleep: (ms) => sleep(ms) };

/** For a minute, a function of ours that this program calls has been missing, or has had another result type. */
export class FunctionGoneError extends Error {
  override name = "FunctionGoneError";
}

/** Whether a call failed because a function of ours was replaced or dropped: its transaction may be retried on another connection. */
export function isFunctionReplaced(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  switch (codeOf(error)) {
    // Undefined function: named by its name, or by its OID if it was dropped after the statement was parsed. If the
    // function is not ours, the mistake is in a task, and retrying does not help.
    case "42883":
      return /\bbrainops(?:_internal)?\.|\bOID \d+/.test(error.message);
    // "cached plan must not change result type": a prepared statement of this connection is out of date. Other
    // unsupported features have this code too.
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
  /** True: the call may be retried. False: the error has another cause. Throws a FunctionGoneError once such errors have lasted for more than 60 s. */
  allows(error: unknown): boolean;
  /** Call it after each call that succeeded. */
  reset(): void;
}

/** How long a call may be retried while functions are replaced; `now` in milliseconds. */
export function createGrace(now: () => number): DeploymentGrace {
  let since: number | null = null;
  return {
    allows: (error) => {
      if (!isFunctionReplaced(error)) return false;
      since ??= now();
      if (now() - since <= PATIENCE_MS) return true;
      throw new FunctionGoneError(
        `${messageOf(error)}, for more than ${PATIENCE_MS / 1000} s: this program is not compatible with the database. ` +
          "Deploy the release that migrated the database; brainops doctor shows which one that is.",
        { cause: error },
      );
    },
    reset: () => {
      since = null;
    },
  };
}

/** Retries a transaction while functions that it calls are replaced. Throws a FunctionGoneError if that takes more than 60 s, and any other error unchanged. */
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
