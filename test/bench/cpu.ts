// CPU seconds of a measurement, by process, from proc(5).
import { readFileSync, readdirSync } from "node:fs";

export interface CpuSeconds {
  /** This process: the worker and the bench itself. */
  readonly worker: number;
  readonly simulator: number;
  /** All Postgres processes on this machine, including those that have ended; null if none is visible. */
  readonly postgres: number | null;
}

/** Returns a function that returns the CPU time used since. */
export function watchCpu(simulatorPid: number): () => CpuSeconds {
  const began = readAll(simulatorPid);
  return () => {
    const ended = readAll(simulatorPid);
    return {
      worker: ended.worker - began.worker,
      simulator: ended.simulator - began.simulator,
      postgres: ended.postgres === null || began.postgres === null ? null : ended.postgres - began.postgres,
    };
  };
}

function readAll(simulatorPid: number): CpuSeconds {
  const { user, system } = process.cpuUsage();
  return { worker: (user + system) / 1e6, simulator: secondsOf(simulatorPid)?.own ?? 0, postgres: postgresSeconds() };
}

function postgresSeconds(): number | null {
  const all = processIds().flatMap((pid) => {
    const seconds = secondsOf(pid);
    return seconds === null || !/^postgres$/.test(seconds.name) ? [] : [seconds.own + seconds.ofEndedChildren];
  });
  return all.length === 0 ? null : all.reduce((sum, seconds) => sum + seconds, 0);
}

function processIds(): number[] {
  try {
    return readdirSync("/proc").map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

/** CPU seconds of a process; null if it does not exist. Linux counts in hundredths of a second. */
function secondsOf(pid: number): { name: string; own: number; ofEndedChildren: number } | null {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const [, name = "", rest = ""] = /\((.*)\) (.*)/.exec(stat) ?? [];
    const [utime = 0, stime = 0, cutime = 0, cstime = 0] = rest.split(" ").slice(11, 15).map(Number);
    return { name, own: (utime + stime) / 100, ofEndedChildren: (cutime + cstime) / 100 };
  } catch {
    return null;
  }
}
