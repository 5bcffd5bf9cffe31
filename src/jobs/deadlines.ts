// Time limits of effects. Owns their timers: each ends with its effect, so that a million rows
// leave nothing behind (AbortSignal.timeout would keep each for its whole limit).

// An effect whose signal was aborted gets this long to say what it knows.
const LAST_WORDS_MS = 2000;

export interface Deadline {
  /** Aborted when the limit is over, or when all must stop. */
  readonly signal: AbortSignal;
  /** Rejects a while after the signal: an effect that does not heed it must not hold its slot for ever. */
  readonly over: Promise<never>;
  /** Ends the timers. */
  clear(): void;
}

export interface Deadlines {
  start(limitMs: number): Deadline;
  /** Aborts every effect that is under way. */
  abortAll(reason: string): void;
}

export function createDeadlines(): Deadlines {
  const running = new Set<(reason: string) => void>();
  return {
    start: (limitMs) => {
      const controller = new AbortController();
      let timer: NodeJS.Timeout;
      let giveUp: (error: Error) => void;
      const over = new Promise<never>((_resolve, reject) => {
        giveUp = reject;
      });
      const abort = (reason: string): void => {
        clearTimeout(timer);
        controller.abort(new Error(reason));
        timer = setTimeout(() => giveUp(new Error(`${reason}, and did not stop when told to`)), LAST_WORDS_MS);
      };
      timer = setTimeout(abort, limitMs, `took longer than ${limitMs / 1000} s`);
      running.add(abort);
      return {
        signal: controller.signal,
        over,
        clear: () => {
          clearTimeout(timer);
          running.delete(abort);
        },
      };
    },
    abortAll: (reason) => {
      for (const abort of running) abort(reason);
    },
  };
}
