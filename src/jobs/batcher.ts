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
}

/** Returns a function that joins the next batch of its key. A key has one batch under way at a time; keys never share one. */
export function createBatcher<Item, Result>(
  options: BatcherOptions<Item, Result>,
): (key: string, item: Item) => Promise<Result> {
  // A lane is there while its key has a batch under way, or one that is about to begin.
  const lanes = new Map<string, Waiting<Item, Result>[]>();

  const flush = (key: string): void => {
    const batch = lanes.get(key)?.splice(0, options.size) ?? [];
    if (batch.length === 0) {
      lanes.delete(key);
      return;
    }
    options
      .run(
        key,
        batch.map(({ item }) => item),
      )
      .then(
        (results) => batch.forEach(({ resolve }, index) => resolve(results[index] as Result)),
        (error: unknown) => batch.forEach(({ reject }) => reject(error)),
      )
      .finally(() => flush(key));
  };

  return (key, item) =>
    new Promise((resolve, reject) => {
      const lane = lanes.get(key);
      if (lane === undefined) {
        lanes.set(key, [{ item, resolve, reject }]);
        // After the callers that are awake in this same turn of the event loop.
        setImmediate(flush, key);
      } else lane.push({ item, resolve, reject });
    });
}
