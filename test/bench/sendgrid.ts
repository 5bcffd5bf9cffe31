// The SendGrid simulator for the bench, in a process of its own.
import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";

export interface SendgridStats {
  readonly requests: number;
  readonly messages: number;
  /** Distinct rows in the messages. */
  readonly rows: number;
  /** Rows that were accepted more than once. */
  readonly duplicates: number;
}

export interface BenchSendgrid {
  readonly url: string;
  readonly pid: number;
  stats(): Promise<SendgridStats>;
  stop(): void;
}

export async function startBenchSendgrid(): Promise<BenchSendgrid> {
  const child = fork(fileURLToPath(new URL("simulatorProcess.ts", import.meta.url)));
  const [{ url }] = (await once(child, "message")) as [{ url: string }];
  return {
    url,
    pid: child.pid ?? 0,
    stats: async () => {
      const answer = once(child, "message");
      child.send("stats");
      const [stats] = (await answer) as [SendgridStats];
      return stats;
    },
    stop: () => child.disconnect(),
  };
}
