// The objects of one account, and their lists in pages.
import type { Kind, Objects } from "./types.ts";

export interface Page {
  limit: number;
  startingAfter: string | null;
  endingBefore: string | null;
}

export class Store {
  readonly #byId = new Map<string, { kind: Kind; object: Objects[Kind] }>();
  readonly #byKind = new Map<Kind, string[]>();

  add<K extends Kind>(kind: K, object: Objects[K]): Objects[K] {
    this.#byId.set(object.id, { kind, object });
    const ids = this.#byKind.get(kind) ?? [];
    ids.push(object.id);
    this.#byKind.set(kind, ids);
    return object;
  }

  get<K extends Kind>(kind: K, id: string | null): Objects[K] | null {
    const found = id === null ? undefined : this.#byId.get(id);
    return found?.kind === kind ? (found.object as Objects[K]) : null;
  }

  /** An object that another one refers to. Throws if it does not exist. */
  need<K extends Kind>(kind: K, id: string | null): Objects[K] {
    const found = this.get(kind, id);
    if (found === null) throw new Error(`${kind} ${id} does not exist, but another object refers to it`);
    return found;
  }

  /** An object of any kind. */
  find(id: string): Objects[Kind] | null {
    return this.#byId.get(id)?.object ?? null;
  }

  /** Newest first, as Stripe lists them. */
  all<K extends Kind>(kind: K): Objects[K][] {
    const ids = this.#byKind.get(kind) ?? [];
    return ids.map((id) => this.need(kind, id)).toReversed();
  }

  remove(id: string): void {
    const found = this.#byId.get(id);
    if (found === undefined) return;
    this.#byId.delete(id);
    this.#byKind.set(
      found.kind,
      (this.#byKind.get(found.kind) ?? []).filter((each) => each !== id),
    );
  }

  clear(): void {
    this.#byId.clear();
    this.#byKind.clear();
  }
}

/** One page of an ordered list; null if the id to start from is not in it. */
export function pageOf<T extends { id: string }>(list: readonly T[], page: Page): { data: T[]; more: boolean } | null {
  const { startingAfter, endingBefore, limit } = page;
  const at = (id: string): number => list.findIndex((each) => each.id === id);
  if (endingBefore !== null) {
    const end = at(endingBefore);
    if (end < 0) return null;
    return { data: list.slice(Math.max(0, end - limit), end), more: end > limit };
  }
  const start = startingAfter === null ? 0 : at(startingAfter) + 1;
  if (startingAfter !== null && start === 0) return null;
  return { data: list.slice(start, start + limit), more: list.length > start + limit };
}
