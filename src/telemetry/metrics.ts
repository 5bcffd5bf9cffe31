// Prometheus metrics of this process, and of the queues as Postgres sees them.
import { collectDefaultMetrics, Counter, Gauge, Histogram, Registry } from "prom-client";
import type pg from "pg";

const registry = new Registry();
collectDefaultMetrics({ register: registry });

const outcomes = new Counter({
  name: "brainops_job_outcomes_total",
  help: "Effects that ended, by table and outcome",
  labelNames: ["table", "outcome"],
  registers: [registry],
});
const durations = new Histogram({
  name: "brainops_job_duration_seconds",
  help: "From claim to outcome, by table",
  labelNames: ["table"],
  buckets: [0.005, 0.02, 0.1, 0.5, 2, 10, 30, 60],
  registers: [registry],
});
const webhooks = new Counter({
  name: "brainops_webhook_events_total",
  help: "Events received, by provider and whether they were new",
  labelNames: ["provider", "result"],
  registers: [registry],
});
const runnerEnds = new Counter({
  name: "brainops_runner_restarts_total",
  help: "Times graphile-worker ended its run and was started again",
  registers: [registry],
});
const rows = new Gauge({
  name: "brainops_rows",
  help: "Job rows that are not done, by table and status",
  labelNames: ["table", "status"],
  registers: [registry],
});
const oldest = new Gauge({
  name: "brainops_oldest_due_seconds",
  help: "How late the oldest due row of a table is",
  labelNames: ["table"],
  registers: [registry],
});

type Recorder = (seconds: number) => void;
const records = new Map<string, Recorder>();

/** Labels are looked up once for each table and outcome: said of every row, that took more time than counting. */
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

/** The text of GET /metrics; asks Postgres once for the queues. */
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
