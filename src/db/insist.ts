// Retries of transactions that must be written eventually, even if Postgres is unreachable for minutes.
import { setTimeout as sleep } from "node:timers/promises";
import { isTransient } from "./pool.ts";

export interface InsistOptions {
  /** Called with each error that is followed by a retry. */
  readonly onRetry?: (error: unknown) => void;
  /** True: the error is thrown at once, although it is transient. @default () => false */
  readonly unless?: (error: unknown) => boolean;
}

/**
 * Retries while Postgres is unreachable or the transaction collides with another (isTransient), with pauses of 50 ms to
 * 2 s, for at most `forMs` milliseconds from the call. Throws the last error after that, and any other error at once.
 * `run` must be safe to repeat: a commit whose answer was lost may have happened.
 */
export async function insist<T>(
  run: () => Promise<T>,
  forMs: number,
  { onRetry, unless }: InsistOptions = {},
): Promise<T> {
  const deadline = performance.now() + forMs;
  for (let delayMs = 50; ; delayMs = Math.min(delayMs * 2, 2000)) {
    try {
      return await run();
    } catch (error) {
      if (!isTransient(error) || unless?.(error) === true || performance.now() > deadline) throw error;
      onRetry?.(error);
      await sleep(delayMs);
    }
  }
}
