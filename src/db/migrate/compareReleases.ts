// The order of releases, by the rules of semver.
import { MigrationError } from "./types.ts";

interface Release {
  readonly core: readonly number[];
  readonly pre: readonly (number | string)[];
}

/** Negative if a is the older release, 0 if they are the same. Ignores build metadata (+…). Throws if a text is not a release. */
export function compareReleases(a: string, b: string): number {
  const [left, right] = [parse(a), parse(b)];
  const core = compareParts(left.core, right.core);
  if (core !== 0) return core;
  // 1.0.0-rc.1 comes before 1.0.0.
  if (left.pre.length === 0 || right.pre.length === 0) return right.pre.length - left.pre.length;
  return compareParts(left.pre, right.pre);
}

function parse(text: string): Release {
  const match = /^(\d+)\.(\d+)\.(\d+)(?:-([0-9A-Za-z.-]+))?(?:\+[0-9A-Za-z.-]+)?$/.exec(text);
  if (match === null) throw new MigrationError(`"${text}" is not a release; expected three numbers, such as 0.2.0.`);
  const [, major, minor, patch, pre] = match;
  return {
    core: [major, minor, patch].map(Number),
    pre: (pre?.split(".") ?? []).map((part) => (/^\d+$/.test(part) ? Number(part) : part)),
  };
}

/** Numbers are compared by value and come before text. If one list is the beginning of the other, the shorter one comes first. */
function compareParts(a: readonly (number | string)[], b: readonly (number | string)[]): number {
  for (const [index, left] of a.entries()) {
    const right = b[index];
    if (right === undefined) return 1;
    if (left === right) continue;
    if (typeof left !== typeof right) return typeof left === "number" ? -1 : 1;
    return left < right ? -1 : 1;
  }
  return a.length - b.length;
}
