// A stack of cleanup functions: run in reverse order, each once, even if others fail.
import { messageOf } from "../errors.ts";

type Closer = () => Promise<unknown>;

export interface Cleanup {
  /** Registers the cleanup of something that was just started. After run() has begun: closes it at once and throws. */
  add(close: Closer): Promise<void>;
  /** Runs all functions. Prints their errors to stderr and never throws. */
  run(): Promise<void>;
}

export function createCleanup(): Cleanup {
  const closers: Closer[] = [];
  let isRunning = false;
  const safely = async (close: Closer): Promise<void> => {
    await close().catch((error: unknown) => void process.stderr.write(`brainops: ${messageOf(error)}\n`));
  };
  return {
    add: async (close) => {
      if (!isRunning) {
        closers.push(close);
        return;
      }
      await safely(close);
      throw new Error("interrupted");
    },
    run: async () => {
      isRunning = true;
      for (const close of closers.toReversed()) await safely(close);
    },
  };
}
