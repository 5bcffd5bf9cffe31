// Rows that are ours: from their claim until their outcome is written.

export interface InHand {
  readonly size: number;
  add(ids: Iterable<string>): void;
  remove(ids: Iterable<string>): void;
  /** Resolves when fewer rows than the limit are in hand. */
  room(): Promise<void>;
}

export function createInHand(limit: number): InHand {
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
