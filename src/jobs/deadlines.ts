// Time limits of effects. Owns their timers, and ends each with its effect: AbortSignal.timeout
// would keep a timer for its whole limit, for every row that was ever processed.

// How long an effect may still run after its signal was aborted, so that it can return an outcome.
const ABORT_GRACE_MS = 2000;

export interface Deadline {
  /** Aborted when the limit has passed, or by abortAll. */
  readonly signal: AbortSignal;
  /** Never resolves. Rejects 2 s after the abort, so that an effect that ignores its signal does not keep its slot. */
  readonly over: Promise<never>;
  /** Ends the timers. Call it when the effect has ended. */
  clear(): void;
}

export interface Deadlines {
  /** @param limitMs milliseconds, above zero */
  start(limitMs: number): Deadline;
  /** Aborts every deadline that has started and is not cleared. */
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
        timer = setTimeout(() => giveUp(new Error(`${reason}, and its handler ignored the abort`)), ABORT_GRACE_MS);
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
