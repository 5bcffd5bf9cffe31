// Does what the row asks for, so that a test can kill the process that runs it.
import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { defineJob, type JobRow } from "../../../src/index.ts";

interface Row extends JobRow {
  readonly act: string;
}

export default defineJob<Row>({
  table: "poison_rows",
  effect: async ({ act }, { signal }) => {
    // Every row takes a while, so that others are in flight when one of them kills the process.
    await sleep(20);
    switch (act) {
      case "abort":
        process.abort();
        break;
      case "exit":
        process.exit(3);
        break;
      case "kill":
        process.kill(process.pid, "SIGKILL");
        break;
      case "memory": {
        const kept: unknown[] = [];
        for (;;) kept.push(Array.from({ length: 1e6 }, () => ({})));
      }
      case "block":
        for (;;) readFileSync("/dev/null");
      case "later":
        setTimeout(() => process.exit(4), 50);
        break;
      case "wait":
        await sleep(60_000, undefined, { signal });
        break;
      default:
    }
    return { kind: "completed", result: { ran_in: process.pid } };
  },
});
