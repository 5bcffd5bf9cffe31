// Renders in a thread, so that what tenants write cannot block or end this process: the process posts plain data and
// gets plain data back. This file owns the thread: it starts it with the first task, gives it one batch at a time, and
// ends it when a task takes too long. Then the task fails, the rest of the batch is queued again, and the next thread
// starts.
import { Worker } from "node:worker_threads";
import { BrainOpsError, messageOf } from "../../errors.ts";
import { OutcomeError } from "../../jobs/outcome.ts";
import { createBudget } from "./budget.ts";
import { createFairQueue, type Taken } from "./fairQueue.ts";
import { sizeOf, sizeOfSource } from "./input.ts";
import { LIMITS, limitError, shown } from "./limits.ts";
import { PROGRESS, type Answer, type BulkSource, type Report, type Results, type Task } from "./tasks.ts";

/** A task in the queue or in the thread. */
interface Unit {
  readonly task: Task;
  /** As input.ts measures it. */
  readonly size: number;
  readonly since: number;
  readonly now: () => Date;
  readonly resolve: (result: Results[keyof Results]) => void;
  readonly reject: (error: Error) => void;
}

interface Batch {
  readonly worker: Worker;
  /** Null for those that have been answered. */
  readonly units: (Taken<Unit> | null)[];
  /** The task that the thread was last seen with, and since when. */
  place: number;
  placeSince: number;
  /** Why the thread is being ended. */
  ending: "cpu" | "wall" | null;
  asking: boolean;
}

const MAX_BATCH = 128;
const MAX_BATCH_SIZE = 500_000;
// A task that waits longer goes back to its table: its row must not run into its time limit here.
const MAX_QUEUED_MS = 15_000;
const QUEUED_AGAIN_MS = 10_000;
const WATCH_MS = 25;
// A task is given this much longer than its limit to end by itself, with a message that names the part of the row.
const MARGIN_MS = 50;
const START_MS = 20_000;
const MAX_START_FAILURES = 3;

type CpuUsage = () => Promise<{ user: number; system: number }>;

export class Renderer {
  readonly #queue = createFairQueue<Unit>();
  readonly #budget = createBudget(() => performance.now());
  readonly #progress = new Float64Array(new SharedArrayBuffer(PROGRESS.bytes));
  readonly #heapMb: number;
  #worker: Worker | null = null;
  #batch: Batch | null = null;
  #batchLength = 8;
  #scheduled = false;
  #watch: NodeJS.Timeout | null = null;
  #startFailures = 0;

  /** `heapMb`: the heap of the thread, in MB. */
  constructor(heapMb: number = LIMITS.heapMb) {
    this.#heapMb = heapMb;
  }

  /**
   * Renders a task of the tenant. Throws what is the row's fault as BrainOpsError or Error. Throws OutcomeError with
   * defer if the tenant's rows take too much time, and with retry if the thread does not start or gets no processor.
   */
  async render<Kind extends Task["kind"]>(
    tenant: string,
    task: Extract<Task, { kind: Kind }>,
    now: () => Date,
  ): Promise<Results[Kind]> {
    const size = sizeOf(task);
    if ("source" in task) sizeOfSource(task.source);
    if (this.#budget.isOver(tenant)) throw this.#overBudget(tenant, now);
    return await new Promise((resolve, reject) => {
      const done = resolve as (result: Results[keyof Results]) => void;
      this.#queue.push(tenant, { task, size, since: performance.now(), now, resolve: done, reject });
      this.#schedule();
    });
  }

  /** Ends the thread. Tasks that it has not rendered are queued again, and start another. */
  async close(): Promise<void> {
    await this.#worker?.terminate();
  }

  /** Later in the same turn of the event loop, so that rows that were claimed together share a batch. */
  #schedule(): void {
    if (this.#scheduled || this.#batch !== null) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (this.#batch === null) this.#post();
    });
  }

  #post(): void {
    const units = this.#takeBatch();
    if (units.length === 0) {
      // An idle thread must not keep the process alive.
      this.#worker?.unref();
      if (this.#watch !== null) clearInterval(this.#watch);
      this.#watch = null;
      return;
    }
    const worker = (this.#worker ??= this.#start());
    worker.ref();
    this.#progress[PROGRESS.place] = 0;
    this.#batch = { worker, units, place: 0, placeSince: performance.now(), ending: null, asking: false };
    worker.postMessage(
      units.map(({ item }) => item.task),
      [],
    );
    this.#watch ??= setInterval(() => this.#check(), WATCH_MS).unref();
  }

  #takeBatch(): Taken<Unit>[] {
    const units: Taken<Unit>[] = [];
    const sources = new Set<BulkSource>();
    let size = 0;
    while (units.length < this.#batchLength) {
      const taken = this.#queue.take(
        (unit) => units.length === 0 || size + this.#added(unit, sources) <= MAX_BATCH_SIZE,
      );
      if (taken === null) break;
      const error = this.#whyNot(taken);
      if (error === null) {
        size += this.#added(taken.item, sources);
        if ("source" in taken.item.task) sources.add(taken.item.task.source);
        units.push(taken);
      } else {
        this.#queue.settle(taken, 0);
        taken.item.reject(error);
      }
    }
    return units;
  }

  /** What posting the unit adds to a batch that has these sources. */
  #added({ task, size }: Unit, sources: ReadonlySet<BulkSource>): number {
    return size + ("source" in task && !sources.has(task.source) ? sizeOfSource(task.source) : 0);
  }

  /** Why a unit is not rendered any more; null if it is. */
  #whyNot({ tenant, item: { now, since } }: Taken<Unit>): Error | null {
    if (this.#budget.isOver(tenant)) return this.#overBudget(tenant, now);
    return performance.now() - since > MAX_QUEUED_MS
      ? waiting("this worker has too much to render", now, QUEUED_AGAIN_MS)
      : null;
  }

  #overBudget(tenant: string, now: () => Date): Error {
    const reason = "the tenant's subjects and bodies take too much processor time to render; simplify them";
    return waiting(reason, now, this.#budget.reserve(tenant));
  }

  #start(): Worker {
    // The extension of this file: .ts from the sources, .js from dist/.
    const entry = import.meta.url.endsWith(".ts") ? "./thread.ts" : "./thread.js";
    const worker = new Worker(new URL(entry, import.meta.url), {
      workerData: this.#progress.buffer,
      env: {}, // no secrets where tenants' templates are
      resourceLimits: { maxOldGenerationSizeMb: this.#heapMb, maxYoungGenerationSizeMb: 32 },
    });
    let failure: unknown = null;
    worker.on("message", (report: Report) => this.#onReport(worker, report));
    worker.on("error", (error) => (failure = error));
    worker.on("exit", () => this.#onExit(worker, failure));
    return worker;
  }

  #onReport(worker: Worker, { answers, done }: Report): void {
    const batch = this.#batch;
    // A thread that is being ended may still have reports under way; their tasks are rendered again.
    if (batch === null || batch.worker !== worker) return;
    for (const answer of answers) this.#onAnswer(batch, answer);
    if (!done || batch.ending !== null) return;
    const left = this.#putBack(batch);
    const rendered = batch.units.length - left;
    this.#batchLength = left === 0 ? Math.min(this.#batchLength * 2, MAX_BATCH) : Math.max(rendered, 1);
    this.#batch = null;
    this.#startFailures = 0;
    this.#post();
  }

  #onAnswer({ units }: Batch, { place, cpuMs, result }: Answer): void {
    const taken = units[place] ?? null;
    if (taken === null) return;
    units[place] = null;
    this.#settle(taken, cpuMs);
    if (result === null || !("refusal" in result) || typeof result.refusal === "string") {
      taken.item.resolve(result as Results[keyof Results]);
      return;
    }
    const { code, message } = result.refusal;
    taken.item.reject(code === null ? new Error(message) : new BrainOpsError(code, message));
  }

  #settle(taken: Taken<Unit>, cpuMs: number): void {
    this.#queue.settle(taken, cpuMs);
    this.#budget.charge(taken.tenant, cpuMs);
  }

  /** Queues the batch's unanswered units again, in their order. Returns how many. */
  #putBack({ units }: Batch): number {
    const left = units.filter((taken) => taken !== null);
    for (const taken of left.toReversed()) this.#queue.putBack(taken);
    return left.length;
  }

  #onExit(worker: Worker, failure: unknown): void {
    if (this.#worker === worker) this.#worker = null;
    const batch = this.#batch;
    if (batch === null || batch.worker !== worker) return;
    this.#batch = null;
    const place = (this.#progress[PROGRESS.place] ?? 0) - 1;
    const culprit = batch.units[place] ?? null;
    if (culprit !== null) {
      batch.units[place] = null;
      this.#settle(culprit, LIMITS.cpuMs);
      culprit.item.reject(errorOf(batch.ending, failure, this.#heapMb));
    }
    this.#putBack(batch);
    if (culprit === null && batch.ending !== null) this.#startFailures += 1;
    if (culprit === null && failure !== null) this.#startFailures += 1;
    if (this.#startFailures >= MAX_START_FAILURES) this.#giveUp(failure);
    this.#post();
  }

  /** Gives every waiting row back to its table: the thread does not start, which no row can be blamed for. */
  #giveUp(failure: unknown): void {
    this.#startFailures = 0;
    const reason = `the rendering thread does not start: ${failure === null ? "it does not answer" : messageOf(failure)}`;
    for (let taken = this.#queue.take(() => true); taken !== null; taken = this.#queue.take(() => true)) {
      this.#queue.settle(taken, 0);
      taken.item.reject(new OutcomeError({ kind: "retry", reason }));
    }
  }

  /** Ends the thread if its task has had its time. */
  #check(): void {
    const batch = this.#batch;
    if (batch === null || batch.ending !== null) return;
    const place = this.#progress[PROGRESS.place] ?? 0;
    const at = performance.now();
    if (place !== batch.place) {
      batch.place = place;
      batch.placeSince = at;
      return;
    }
    const forMs = at - batch.placeSince;
    // Node 22 has no such method.
    const cpuUsage = (batch.worker as { cpuUsage?: CpuUsage }).cpuUsage?.bind(batch.worker);
    const mostMs = place === 0 ? START_MS : cpuUsage === undefined ? LIMITS.wallMsWithoutCpuTime : LIMITS.wallMs;
    if (forMs > mostMs) this.#end(batch, "wall");
    else if (place > 0 && forMs > LIMITS.cpuMs / 2 && cpuUsage !== undefined) void this.#checkCpu(batch, cpuUsage);
  }

  async #checkCpu(batch: Batch, cpuUsage: CpuUsage): Promise<void> {
    if (batch.asking) return;
    batch.asking = true;
    const { place } = batch;
    try {
      const { user, system } = await cpuUsage();
      const now = this.#progress[PROGRESS.place];
      const tookMs = (user + system) / 1000 - (this.#progress[PROGRESS.cpuMs] ?? 0);
      if (batch === this.#batch && place === now && tookMs > LIMITS.cpuMs + MARGIN_MS) this.#end(batch, "cpu");
    } catch {
      // The thread has ended meanwhile.
    } finally {
      batch.asking = false;
    }
  }

  #end(batch: Batch, why: "cpu" | "wall"): void {
    if (batch.ending !== null) return;
    batch.ending = why;
    void batch.worker.terminate();
  }
}

function waiting(reason: string, now: () => Date, waitMs: number): OutcomeError {
  return new OutcomeError({ kind: "defer", reason: `waiting: ${reason}`, at: new Date(now().getTime() + waitMs) });
}

/** The error of the task that was being rendered when the thread ended. */
function errorOf(ending: Batch["ending"], failure: unknown, heapMb: number): Error {
  const simplify = "simplify subject and body";
  if (ending === "cpu") {
    return limitError("rendering", "takes too much processor time", `${LIMITS.cpuMs} ms`, simplify);
  }
  if (ending === "wall") {
    const reason = `rendering: did not end within ${shown(LIMITS.wallMs)} ms; the machine may be too busy`;
    return new OutcomeError({ kind: "retry", reason });
  }
  if (failure instanceof Error && "code" in failure && failure.code === "ERR_WORKER_OUT_OF_MEMORY") {
    return limitError("rendering", "takes too much memory", `${heapMb} MB`, simplify);
  }
  const reason = `the rendering thread ended: ${failure === null ? "no reason given" : messageOf(failure)}`;
  return new OutcomeError({ kind: "retry", reason });
}
