// The simulator's time, and what is to happen in it: renewals, retries, delayed payments, expiries.

interface Appointment {
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
  /** While something that fell due is done: the time it fell due at. */
  #during: number | null = null;
  #agenda: Appointment[] = [];
  #made = 0;

  /** `base` in Unix milliseconds. */
  constructor(base: () => number) {
    this.#base = base;
  }

  /** Unix seconds, as Stripe's timestamps are. */
  get now(): number {
    return this.#during ?? Math.floor((this.#base() + this.#shiftMs) / 1000);
  }

  /** Unix seconds that the outside sees too: `advance` doesn't move them, and signatures are made with them. */
  get wall(): number {
    return Math.floor(this.#base() / 1000);
  }

  /** How many things are still to happen. */
  get appointments(): number {
    return this.#agenda.length;
  }

  later(at: number, act: () => void): void {
    this.#agenda.push({ at, order: this.#made++, act });
  }

  /** Moves this clock on, not the world's, and does what falls due on the way. */
  advance(ms: number): void {
    if (!(ms >= 0)) throw new RangeError(`advance: ${ms} ms was given; time goes forward only, give 0 or more`);
    this.#shiftMs += ms;
    this.catchUp();
  }

  /** Does what fell due by now, in the order and at the time it was due; what that brings about as well. */
  catchUp(): void {
    // Something that fell due asks for this itself when it acts through the simulator.
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
    this.#agenda = [];
    this.#shiftMs = 0;
  }

  #take(until: number): Appointment | null {
    const [first] = this.#agenda.filter(({ at }) => at <= until).toSorted((a, b) => a.at - b.at || a.order - b.order);
    if (first === undefined) return null;
    this.#agenda = this.#agenda.filter((each) => each !== first);
    return first;
  }
}

/** The same day and time one or more months or years later, or the month's last day where it has no such day. */
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
