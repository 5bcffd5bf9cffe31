// Rows in flight: from the commit of their claim until their result is written.

export interface InFlight {
  /** Number of rows. */
  readonly size: number;
  add(ids: Iterable<string>): void;
  remove(ids: Iterable<string>): void;
  /** Rows whose result cannot be written for now: they count as in flight, but take no room from others. */
  setAside(ids: Iterable<string>): void;
  /** Resolves when there are fewer rows than the limit; at once if there are now. */
  room(): Promise<void>;
}

/** The limit is checked by `room` alone: a claim that has room may exceed it by its own rows. */
export function createInFlight(limit: number): InFlight {
  const rows = new Set<string>();
  const aside = new Set<string>();
  const waiting: (() => void)[] = [];
  const admit = (): void => {
    if (rows.size < limit) for (const go of waiting.splice(0)) go();
  };
  return {
    get size() {
      return rows.size + aside.size;
    },
    add: (ids) => {
      for (const id of ids) rows.add(id);
    },
    remove: (ids) => {
      for (const id of ids) if (!rows.delete(id)) aside.delete(id);
      admit();
    },
    setAside: (ids) => {
      for (const id of ids) if (rows.delete(id)) aside.add(id);
      admit();
    },
    room: async () => {
      while (rows.size >= limit) await new Promise<void>((resolve) => waiting.push(resolve));
    },
  };
}
