import { defineJob, type JobRow } from "../../../src/jobs/define.ts";

/** The effect of nothing: what is measured is the way to it and back. */
export default defineJob<JobRow>({
  table: "bench_jobs",
  effect: async () => ({ kind: "completed" }),
});
