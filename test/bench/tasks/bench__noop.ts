import { defineJob, type JobRow } from "../../../src/jobs/define.ts";

let onStart = (): void => {};

/** Called at the first line of the next effect. */
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
