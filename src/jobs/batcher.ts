// Coalesces calls that come while others are under way. Owns the trade between latency and round
// trips: a lone call goes at once, and under load each round trip carries whatever has gathered
// meanwhile. No timer delays anything.

interface Waiting<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

export interface BatcherOptions<Item, Result> {
  /** Runs one batch: results in the order of the items. What it throws, all its callers get. */
  readonly run: (key: string, items: readonly Item[]) => Promise<readonly Result[]>;
  /** Most items in a batch. */
  readonly size: number;
  /** Most batches of a key under way at once. */
  readonly parallel: (key: string) => number;
}

/** Returns a function that joins the next batch of its key. Different keys never share a batch. */
export function createBatcher<Item, Result>(
  options: BatcherOptions<Item, Result>,
): (key: string, item: Item) => Promise<Result> {
  const lanes = new Map<string, { queue: Waiting<Item, Result>[]; running: number; scheduled: boolean }>();

  const flush = (key: string): void => {
    const lane = lanes.get(key);
    if (lane === undefined) return;
    lane.scheduled = false;
    while (lane.queue.length > 0 && lane.running < options.parallel(key)) {
      const batch = lane.queue.splice(0, options.size);
      lane.running += 1;
      options
        .run(
          key,
          batch.map(({ item }) => item),
        )
        .then(
          (results) => batch.forEach(({ resolve }, index) => resolve(results[index] as Result)),
          (error: unknown) => batch.forEach(({ reject }) => reject(error)),
        )
        .finally(() => {
          lane.running -= 1;
          if (lane.queue.length > 0) flush(key);
          else if (lane.running === 0 && !lane.scheduled) lanes.delete(key);
        });
    }
  };

  return (key, item) =>
    new Promise((resolve, reject) => {
      let lane = lanes.get(key);
      if (lane === undefined) {
        lane = { queue: [], running: 0, scheduled: false };
        lanes.set(key, lane);
      }
      lane.queue.push({ item, resolve, reject });
      if (!lane.scheduled && lane.running < options.parallel(key)) {
        lane.scheduled = true;
        // After the callers that are awake in this same turn of the event loop.
        setImmediate(flush, key);
      }
    });
}
