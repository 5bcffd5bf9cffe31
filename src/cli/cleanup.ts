// What takes things away again: last in, first out, each once, whatever the others do.
import { messageOf } from "../errors.ts";

type Closer = () => Promise<unknown>;

export interface Cleanup {
  /** For something that has just been started. Throws once the cleaning has begun; then it is closed at once. */
  add(close: Closer): Promise<void>;
  run(): Promise<void>;
}

export function createCleanup(): Cleanup {
  const closers: Closer[] = [];
  let begun = false;
  const safely = async (close: Closer): Promise<void> => {
    await close().catch((error: unknown) => void process.stderr.write(`brainops: ${messageOf(error)}\n`));
  };
  return {
    add: async (close) => {
      if (!begun) {
        closers.push(close);
        return;
      }
      await safely(close);
      throw new Error("interrupted");
    },
    run: async () => {
      begun = true;
      for (const close of closers.toReversed()) await safely(close);
    },
  };
}
