// The lock of the one session. First come, first served, so a busy connection can't starve the others.

interface Waiter {
  readonly grant: () => void;
  readonly refuse: (reason: Error) => void;
}

/** Releases the lock. A second call does nothing. */
export type Release = () => void;

export class FairLock {
  readonly #waiting: Waiter[] = [];
  #held = false;

  /**
   * Waits for the lock. Aborting `signal` (by a CancelRequest) removes the waiter from the queue and rejects with the
   * signal's reason; it has no effect once the lock is granted.
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
      // The lock goes directly to the next waiter, so that a new caller queues behind all waiters.
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
