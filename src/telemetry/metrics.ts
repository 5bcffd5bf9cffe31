// Prometheus metrics: counters of this process, and gauges of the queues, which are read from Postgres.
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type pg from "pg";

const registry = new Registry();
collectDefaultMetrics({ register: registry });

const outcomes = new Counter({
  name: "brainops_job_outcomes_total",
  help: "Rows processed, by table and outcome",
  labelNames: ["table", "outcome"],
  registers: [registry],
});
const durations = new Histogram({
  name: "brainops_job_duration_seconds",
  help: "Time from the claim of a row to its settlement, by table",
  labelNames: ["table"],
  buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 30, 60],
  registers: [registry],
});
const webhooks = new Counter({
  name: "brainops_webhook_events_total",
  help: "Webhook events received, by provider and result: new, known (seen before) or refused",
  labelNames: ["provider", "result"],
  registers: [registry],
});
const runnerEnds = new Counter({
  name: "brainops_runner_restarts_total",
  help: "Restarts of graphile-worker's run",
  registers: [registry],
});
const rows = new Gauge({
  name: "brainops_rows",
  help: "Rows in job tables that are not completed, cancelled or skipped, by table and status",
  labelNames: ["table", "status"],
  registers: [registry],
});
const oldest = new Gauge({
  name: "brainops_oldest_due_seconds",
  help: "Age of the oldest due row of a table, from the time it was due",
  labelNames: ["table"],
  registers: [registry],
});

type Recorder = (seconds: number) => void;
const records = new Map<string, Recorder>();

/**
 * Counts a row that ended, `seconds` after its claim. Labels are resolved once per table and outcome, because resolving
 * them for every row took longer than counting.
 */
export function recordOutcome(table: string, outcome: string, seconds: number): void {
  const key = `${table} ${outcome}`;
  let record = records.get(key);
  if (record === undefined) {
    const [counter, histogram] = [outcomes.labels({ table, outcome }), durations.labels({ table })];
    record = (took) => {
      counter.inc();
      histogram.observe(took);
    };
    records.set(key, record);
  }
  record(seconds);
}

export function recordWebhook(provider: string, result: "new" | "known" | "refused", count: number): void {
  if (count > 0) webhooks.inc({ provider, result }, count);
}

export function recordRunnerRestart(): void {
  runnerEnds.inc();
}

/** The body of GET /metrics. Runs one query on Postgres. Throws if that fails. */
export async function renderMetrics(pool: pg.Pool): Promise<{ contentType: string; body: string }> {
  const { rows: queues } = await pool.query<{ table_name: string; status: string; n: number; late: number | null }>(
    `select table_name, status, count(*)::int as n,
       extract(epoch from brainops.now() - min(scheduled_for) filter (where status = 'pending' and scheduled_for <= brainops.now()))::float8 as late
     from brainops.jobs where status not in ('completed', 'cancelled', 'skipped') group by table_name, status`,
  );
  rows.reset();
  oldest.reset();
  for (const queue of queues) {
    rows.set({ table: queue.table_name, status: queue.status }, queue.n);
    if (queue.late !== null) oldest.set({ table: queue.table_name }, queue.late);
  }
  return { contentType: registry.contentType, body: await registry.metrics() };
}
