// Coalesces calls of one table and tenant into batches. Owns the trade-off between latency and round trips: a lone call
// starts at once, and under load each round trip carries whatever has gathered since the last one started. No timer
// delays anything.
import type { JobTable } from "./types.ts";

/** What one transaction carries. */
export interface Batch<Item> {
  readonly table: JobTable;
  readonly tenantId: string;
  readonly items: readonly Item[];
}

export interface BatcherOptions<Item, Output> {
  /**
   * Runs one batch. Resolves with one output for each item, in the order of the items; what it throws rejects all
   * calls of the batch. The next batch of the same table and tenant starts when `release` is called, and at the
   * latest when this promise has settled.
   */
  readonly run: (batch: Batch<Item>, release: () => void) => Promise<readonly Output[]>;
  /** Maximum number of items in a batch. */
  readonly size: number;
}

interface Waiting<Item, Output> {
  readonly item: Item;
  readonly resolve: (output: Output) => void;
  readonly reject: (error: unknown) => void;
}

interface Lane<Item, Output> {
  readonly table: JobTable;
  readonly tenantId: string;
  readonly waiting: Waiting<Item, Output>[];
}

/** Returns a function that joins the next batch of its table and tenant. */
export function createBatcher<Item, Output>({
  run,
  size,
}: BatcherOptions<Item, Output>): (table: JobTable, tenantId: string, item: Item) => Promise<Output> {
  // table -> tenant -> lane. A lane exists while one of its batches is not released yet, or is about to start.
  const lanes = new Map<JobTable, Map<string, Lane<Item, Output>>>();

  const startBatch = (lane: Lane<Item, Output>): void => {
    const { table, tenantId } = lane;
    const batch = lane.waiting.splice(0, size);
    if (batch.length === 0) {
      lanes.get(table)?.delete(tenantId);
      return;
    }
    let released = false;
    const release = (): void => {
      if (released) return;
      released = true;
      startBatch(lane);
    };
    run({ table, tenantId, items: batch.map(({ item }) => item) }, release)
      .then(
        (outputs) => batch.forEach(({ resolve }, index) => resolve(outputs[index] as Output)),
        (error: unknown) => batch.forEach(({ reject }) => reject(error)),
      )
      .finally(release);
  };

  return (table, tenantId, item) =>
    new Promise((resolve, reject) => {
      const ofTable = lanes.get(table) ?? new Map<string, Lane<Item, Output>>();
      lanes.set(table, ofTable);
      const lane = ofTable.get(tenantId);
      if (lane !== undefined) {
        lane.waiting.push({ item, resolve, reject });
        return;
      }
      const opened: Lane<Item, Output> = { table, tenantId, waiting: [{ item, resolve, reject }] };
      ofTable.set(tenantId, opened);
      // Callers that run in the same turn of the event loop share the first batch.
      setImmediate(startBatch, opened);
    });
}
