// Where the time of a measurement went: processor seconds by process, where proc(5) tells them.
import { readFileSync, readdirSync } from "node:fs";

export interface CpuSeconds {
  /** This process: the worker, and the little that the bench does. */
  readonly worker: number;
  readonly standIn: number;
  /** All of Postgres's processes on this machine, those that have ended included; null where there are none to see. */
  readonly postgres: number | null;
}

/** Tells, when called, what was used since. */
export function watchCpu(standInPid: number): () => CpuSeconds {
  const began = readAll(standInPid);
  return () => {
    const ended = readAll(standInPid);
    return {
      worker: ended.worker - began.worker,
      standIn: ended.standIn - began.standIn,
      postgres: ended.postgres === null || began.postgres === null ? null : ended.postgres - began.postgres,
    };
  };
}

function readAll(standInPid: number): CpuSeconds {
  const { user, system } = process.cpuUsage();
  return { worker: (user + system) / 1e6, standIn: secondsOf(standInPid)?.own ?? 0, postgres: postgresSeconds() };
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

/** Null for a process that is gone. Linux counts in hundredths of a second. */
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
