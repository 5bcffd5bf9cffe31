// Retries of transactions that must be written in the end, however long Postgres is away.
import { setTimeout as sleep } from "node:timers/promises";
import { isPassing } from "./pool.ts";

/**
 * Runs again while Postgres is out of reach or the transaction collides with another (isPassing), with pauses of 50 ms
 * to 2 s, for at most `forMs` milliseconds from the call. Throws the last error then, and any other error at once.
 * `run` must be safe to repeat: a commit whose answer was lost may have happened.
 */
export async function insist<T>(run: () => Promise<T>, forMs: number): Promise<T> {
  const deadline = performance.now() + forMs;
  for (let delayMs = 50; ; delayMs = Math.min(delayMs * 2, 2000)) {
    try {
      return await run();
    } catch (error) {
      if (!isPassing(error) || performance.now() > deadline) throw error;
      await sleep(delayMs);
    }
  }
}
