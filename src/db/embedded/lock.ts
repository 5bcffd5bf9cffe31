// The one session's lock: first come, first served, so a busy connection can't starve the others.

interface Waiter {
  readonly grant: () => void;
  readonly refuse: (reason: Error) => void;
}

/** Gives the lock back; calling it twice does nothing. */
export type Release = () => void;

export class FairLock {
  readonly #waiting: Waiter[] = [];
  #held = false;

  /**
   * Waits for the lock. `signal` takes the waiter out of the queue (a CancelRequest does that); it has no effect
   * once the lock is granted.
   */
  async acquire(signal?: AbortSignal): Promise<Release> {
    signal?.throwIfAborted();
    if (this.#held) await this.#wait(signal);
    this.#held = true;
    let released = false;
    return () => {
      if (released) return;
      released = true;
      const next = this.#waiting.shift();
      // Handed over without being free in between: whoever asks now stands behind all who wait.
      if (next === undefined) this.#held = false;
      else next.grant();
    };
  }

  async run<T>(work: () => Promise<T>): Promise<T> {
    const release = await this.acquire();
    try {
      return await work();
    } finally {
      release();
    }
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = {
        grant: () => {
          signal?.removeEventListener("abort", abort);
          resolve();
        },
        refuse: reject,
      };
      const abort = (): void => {
        const index = this.#waiting.indexOf(waiter);
        if (index < 0) return;
        this.#waiting.splice(index, 1);
        waiter.refuse(signal?.reason instanceof Error ? signal.reason : new Error("aborted"));
      };
      signal?.addEventListener("abort", abort, { once: true });
      this.#waiting.push(waiter);
    });
  }
}
