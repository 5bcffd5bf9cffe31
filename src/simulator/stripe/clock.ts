// The simulator's clock and the actions scheduled on it: renewals, retries, delayed payments, expiries.

interface ScheduledAction {
  /** Unix seconds. */
  at: number;
  order: number;
  act: () => void;
}

export const MINUTE = 60;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

export class Clock {
  readonly #base: () => number;
  #shiftMs = 0;
  /** The due time of the action that is running; null otherwise. */
  #during: number | null = null;
  #scheduled: ScheduledAction[] = [];
  #made = 0;

  /** @param base the underlying clock, in Unix milliseconds */
  constructor(base: () => number) {
    this.#base = base;
  }

  /** Unix seconds, as Stripe's timestamps are. */
  get now(): number {
    return this.#during ?? Math.floor((this.#base() + this.#shiftMs) / 1000);
  }

  /** Unix seconds of the underlying clock: `advance` does not change them, and signatures are made with them. */
  get wall(): number {
    return Math.floor(this.#base() / 1000);
  }

  /** How many actions are scheduled. */
  get scheduled(): number {
    return this.#scheduled.length;
  }

  later(at: number, act: () => void): void {
    this.#scheduled.push({ at, order: this.#made++, act });
  }

  /** Moves this clock forward, but not the underlying one, and runs the actions that become due. */
  advance(ms: number): void {
    if (!(ms >= 0)) throw new RangeError(`advance: expected 0 ms or more, found ${ms}`);
    this.#shiftMs += ms;
    this.catchUp();
  }

  /** Runs all actions that are due, each at its due time and in that order, including actions they schedule. */
  catchUp(): void {
    // A running action may call this itself when it acts through the simulator.
    if (this.#during !== null) return;
    const until = this.now;
    for (let next = this.#take(until); next !== null; next = this.#take(until)) {
      this.#during = next.at;
      try {
        next.act();
      } finally {
        this.#during = null;
      }
    }
  }

  clear(): void {
    this.#scheduled = [];
    this.#shiftMs = 0;
  }

  #take(until: number): ScheduledAction | null {
    const [first] = this.#scheduled
      .filter(({ at }) => at <= until)
      .toSorted((a, b) => a.at - b.at || a.order - b.order);
    if (first === undefined) return null;
    this.#scheduled = this.#scheduled.filter((each) => each !== first);
    return first;
  }
}

/** The same day and time one or more months or years later; the month's last day if the month is too short. */
export function addInterval(anchor: number, interval: string, count: number): number {
  if (interval === "day") return anchor + count * DAY;
  if (interval === "week") return anchor + count * 7 * DAY;
  const months = interval === "year" ? count * 12 : count;
  const date = new Date(anchor * 1000);
  const day = date.getUTCDate();
  date.setUTCDate(1);
  date.setUTCMonth(date.getUTCMonth() + months);
  const last = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  date.setUTCDate(Math.min(day, last));
  return Math.floor(date.getTime() / 1000);
}
