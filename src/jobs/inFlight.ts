// Rows in flight: from the commit of their claim until their result is written.

export interface InFlight {
  /** Number of rows. */
  readonly size: number;
  add(ids: Iterable<string>): void;
  remove(ids: Iterable<string>): void;
  /** Resolves when there are fewer rows than the limit; at once if there are now. */
  room(): Promise<void>;
}

/** The limit is checked by `room` alone: a claim that has room may exceed it by its own rows. */
export function createInFlight(limit: number): InFlight {
  const rows = new Set<string>();
  const waiting: (() => void)[] = [];
  return {
    get size() {
      return rows.size;
    },
    add: (ids) => {
      for (const id of ids) rows.add(id);
    },
    remove: (ids) => {
      for (const id of ids) rows.delete(id);
      if (rows.size < limit) for (const go of waiting.splice(0)) go();
    },
    room: async () => {
      while (rows.size >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    },
  };
}
