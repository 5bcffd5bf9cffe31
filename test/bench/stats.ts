import { readFileSync } from "node:fs";

/** The value below which that share (0 to 1) of the numbers lies. */
export function quantile(numbers: readonly number[], share: number): number {
  const sorted = numbers.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

export function median(numbers: readonly number[]): number {
  return quantile(numbers, 0.5);
}

/** Milliseconds that `run` took. */
export async function timed(run: () => Promise<unknown>): Promise<number> {
  const began = performance.now();
  await run();
  return performance.now() - began;
}

/**
 * Tells, when called, what share of the time since then this machine's host gave to others instead
 * (steal, in proc(5)); null where the kernel doesn't say. With more than a few percent the figures
 * are the host's.
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
    // user nice system idle iowait irq softirq steal; guest is in user already.
    const steal = times[7];
    return steal === undefined ? null : { all: times.slice(0, 8).reduce((sum, time) => sum + time, 0), steal };
  } catch {
    return null;
  }
}
