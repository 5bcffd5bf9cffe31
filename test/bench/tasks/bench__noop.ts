import { defineJob, type JobRow } from "../../../src/jobs/define.ts";

let onStart = (): void => {};

/** Sets the function that the effect calls in its first line. */
export function setStartListener(listener: () => void): void {
  onStart = listener;
}

export default defineJob<JobRow>({
  table: "bench_jobs",
  effect: async () => {
    onStart();
    return { kind: "completed" };
  },
});
