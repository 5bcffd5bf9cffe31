// A second implementation of campaigns: the oracle of the property test. It does not use the tables; it gets
// the events, and computes the state of the enrolment.
import { addDelay } from "./zones.ts";

export interface ModelStep {
  readonly key: string;
  readonly kind: "send_email" | "send_sms" | "wait" | "wait_for" | "branch" | "split" | "task";
  readonly days: number;
  readonly ms: number;
  readonly from: "previous" | "enrolment";
  /** Index of the step that a branch, a woken wait or variant b leads to; null: the next one. */
  readonly jump: number | null;
  /** Index of the step that a wait leads to when it times out; null: the next one. */
  readonly otherwise: number | null;
}

interface Open {
  readonly key: string;
  due: number;
  /** Does not run before this time, even if it is due earlier. */
  notBefore: number;
  woken: boolean;
  state: "pending" | "awaiting" | "processing";
  cancelRequested: boolean;
}

interface Decided {
  readonly key: string;
  readonly kind: "performed" | "skipped";
  readonly next: string | null;
}

const HOUR = 3_600_000;

export class Model {
  status: "active" | "paused" | "completed" = "active";
  version = 0;
  scheduleStart: number;
  heldSince: number | null = null;
  campaignPaused = false;
  open: Open | null = null;
  readonly decided: Decided[] = [];
  messages = 0;

  readonly #versions: ModelStep[][];
  readonly #zone: string;

  constructor(first: ModelStep[], now: number, zone: string) {
    this.#versions = [first];
    this.#zone = zone;
    this.scheduleStart = now;
    const [step] = first;
    if (step === undefined) throw new Error("a campaign has steps");
    this.#open(step, addDelay(now, step.days, step.ms, zone));
  }

  get steps(): readonly ModelStep[] {
    return this.#versions[this.version] ?? [];
  }

  get live(): boolean {
    return this.status !== "completed";
  }

  get held(): boolean {
    return this.heldSince !== null;
  }

  stepOf(key: string): ModelStep | undefined {
    return this.steps.find((step) => step.key === key);
  }

  due(now: number): boolean {
    return this.open?.state === "pending" && this.open.notBefore <= now;
  }

  claim(): void {
    if (this.open !== null) this.open.state = "processing";
  }

  putOff(until: number): void {
    if (this.open === null) return;
    this.open.state = "pending";
    this.open.notBefore = until;
  }

  /** Performs the open touch. truth: whether its condition holds now; variant: the one that was drawn. */
  perform(now: number, truth: boolean, variant: string | null): void {
    const { open } = this;
    const index = this.steps.findIndex((step) => step.key === open?.key);
    const step = this.steps[index];
    if (open === null || step === undefined) throw new Error("nothing is open");
    if (step.kind === "send_email" || step.kind === "send_sms") this.messages += 1;
    const target = ((): number | null => {
      if (step.kind === "branch") return truth ? step.jump : null;
      if (step.kind === "wait_for") return open.woken ? step.jump : step.otherwise;
      if (step.kind === "split") return variant === "b" ? step.jump : null;
      return null;
    })();
    this.#decide("performed", this.#from(target ?? index + 1, step.key), now);
  }

  /** A person cancels the open touch. */
  skip(now: number): void {
    if (this.open === null) return;
    if (this.open.state === "processing") {
      this.open.cancelRequested = true;
      return;
    }
    const { key } = this.open;
    this.#decide("skipped", this.#from(this.steps.findIndex((step) => step.key === key) + 1, key), now);
  }

  /** Its worker is known to be dead. */
  abandon(now: number): void {
    if (this.open?.state !== "processing") return;
    if (this.open.cancelRequested) {
      this.open.state = "pending";
      this.skip(now);
    } else {
      this.putOff(now);
    }
  }

  moveOpen(at: number): void {
    if (this.open === null || this.open.state === "processing") return;
    this.open.due = at;
    this.open.notBefore = at;
  }

  wake(now: number): void {
    const { open } = this;
    if (!this.live || open === null || open.woken || this.stepOf(open.key)?.kind !== "wait_for") return;
    open.woken = true;
    open.due = this.heldSince ?? now;
    if (open.state === "pending") open.notBefore = open.due;
  }

  pause(who: "enrolment" | "campaign", now: number): void {
    if (who === "campaign") this.campaignPaused = true;
    else if (this.live) this.status = "paused";
    if (this.live) this.#hold(now);
  }

  resume(who: "enrolment" | "campaign", now: number): void {
    if (who === "campaign") this.campaignPaused = false;
    else if (this.live) this.status = "active";
    if (!this.live) return;
    if (this.campaignPaused || this.status === "paused") {
      if (who === "enrolment") this.#hold(now);
      return;
    }
    const pausedFor = now - (this.heldSince ?? now);
    this.heldSince = null;
    this.scheduleStart += pausedFor;
    const { open } = this;
    if (open === null) return;
    open.due += pausedFor;
    if (open.state === "processing") return;
    open.state = "pending";
    open.notBefore = Math.max(open.due, now);
  }

  publish(steps: ModelStep[], move: boolean): void {
    this.#versions.push(steps);
    if (!move || !this.live || this.open === null) return;
    this.version = this.#versions.length - 1;
    const { key, due } = this.open;
    if (this.stepOf(key) !== undefined) return;
    const last = this.decided.findLast((one) => this.stepOf(one.key) !== undefined);
    const next = this.#from(last === undefined ? 0 : this.steps.findIndex((step) => step.key === last.key) + 1, key);
    this.decided.push({ key, kind: "skipped", next: next?.key ?? null });
    if (next === null) this.#complete();
    else this.#open(next, due);
  }

  #hold(now: number): void {
    this.heldSince ??= now;
    if (this.open?.state === "pending") this.open.state = "awaiting";
  }

  /** The first step from an index on that was not reached before. */
  #from(index: number, open: string): ModelStep | null {
    const reached = new Set([open, ...this.decided.map((one) => one.key)]);
    return this.steps.slice(index).find((step) => !reached.has(step.key)) ?? null;
  }

  #decide(kind: Decided["kind"], next: ModelStep | null, at: number): void {
    const { open } = this;
    if (open === null) throw new Error("nothing is open");
    const now = this.heldSince ?? at;
    this.decided.push({ key: open.key, kind, next: next?.key ?? null });
    if (next === null) {
      this.#complete();
      return;
    }
    let due = this.#dueOf(next, open.due);
    const late = now - open.due;
    const gap = due - open.due;
    if (late > HOUR || (gap > 0 && late > gap / 2)) {
      this.scheduleStart += late;
      due = this.#dueOf(next, now);
    }
    this.#open(next, due);
  }

  #dueOf(step: ModelStep, base: number): number {
    if (step.from === "previous") return addDelay(base, step.days, step.ms, this.#zone);
    return Math.max(addDelay(this.scheduleStart, step.days, step.ms, this.#zone), base);
  }

  #open(step: ModelStep, due: number): void {
    const state = this.held ? "awaiting" : "pending";
    this.open = { key: step.key, due, notBefore: due, woken: false, state, cancelRequested: false };
  }

  #complete(): void {
    this.status = "completed";
    this.heldSince = null;
    this.open = null;
  }
}
