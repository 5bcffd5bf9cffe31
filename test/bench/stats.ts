import { readFileSync } from "node:fs";

/** The quantile of the numbers; `share` is from 0 to 1. NaN for no numbers. */
export function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export function median(numbers: readonly number[]): number {
  return quantile(numbers, 0.5);
}

/** How long `run` took, in milliseconds. */
export async function timed(run: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await run();
  return performance.now() - began;
}

/**
 * Returns a function that returns the share of the time since then that the machine's host gave to other
 * guests (steal, in proc(5)); null if the kernel does not report it. With more than a few percent, the
 * figures are not reliable.
 */
export function watchSteal(): () => number | null {
  const began = cpuTimes();
  return () => {
    const ended = cpuTimes();
    if (began === null || ended === null) return null;
    return (ended.steal - began.steal) / Math.max(1, ended.all - began.all);
  };
}

function cpuTimes(): { all: number; steal: number } | null {
  try {
    const [, ...times] = readFileSync("/proc/stat", "utf8").split("\n", 1)[0]?.split(/\s+/).map(Number) ?? [];
    // user nice system idle iowait irq softirq steal; guest is part of user.
    const steal = times[7];
    return steal === undefined ? null : { all: times.slice(0, 8).reduce((sum, time) => sum + time, 0), steal };
  } catch {
    return null;
  }
}
