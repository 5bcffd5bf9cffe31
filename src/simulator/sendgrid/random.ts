// Seeded randomness: the same seed gives the same run.
import { randomBytes } from "node:crypto";

/** A generator of numbers in [0, 1): mulberry32, which is small and uniform enough to select faults. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** A shuffled copy (Fisher-Yates). */
export function shuffled<T>(items: readonly T[], random: () => number): T[] {
  const copy = [...items];
  for (let last = copy.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [copy[last], copy[other]] = [copy[other] as T, copy[last] as T];
  }
  return copy;
}

/** 22 URL-safe characters, the format of X-Message-Id. Not seeded, so that two simulators never share an id. */
export function messageId(): string {
  return randomBytes(16).toString("base64url");
}
