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
const holdUps = new Counter({
  name: "brainops_hold_ups_total",
  help: "Times that a tenant's rows were left alone because their transactions ran into a lock or statement timeout, by table",
  labelNames: ["table"],
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

const stalled = new Gauge({
  name: "brainops_stalled_seconds",
  help: "For how long rows of a table have been due while none was claimed, by table; 0 if the table is locked and was never claimed from",
  labelNames: ["table"],
  registers: [registry],
});
const readable = new Gauge({
  name: "brainops_queues_readable",
  help: "1 if the queues could be read from Postgres; 0 if brainops_rows and brainops_oldest_due_seconds are missing because they could not",
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

export function recordHoldUp(table: string): void {
  holdUps.inc({ table });
}

export function recordRunnerRestart(): void {
  runnerEnds.inc();
}

interface Stalled {
  readonly table: string;
  readonly since: Date | null;
}

/**
 * The body of GET /metrics. Throws if Postgres is unreachable.
 * @param isLeftOut whether what could not be read for this reason is left out, as while a table is locked
 */
export async function renderMetrics(
  pool: pg.Pool,
  readStalls: () => Promise<readonly Stalled[]>,
  isLeftOut: (error: unknown) => boolean,
): Promise<{ contentType: string; body: string }> {
  for (const gauge of [rows, oldest, stalled]) gauge.reset();
  const results = await Promise.allSettled([readQueues(pool), setStalled(readStalls)]);
  for (const result of results) {
    if (result.status === "rejected" && !isLeftOut(result.reason)) throw result.reason;
  }
  readable.set(results.every(({ status }) => status === "fulfilled") ? 1 : 0);
  return { contentType: registry.contentType, body: await registry.metrics() };
}

async function readQueues(pool: pg.Pool): Promise<void> {
  const { rows: queues } = await pool.query<{ table_name: string; status: string; n: number; late: number | null }>(
    `select table_name, status, count(*)::int as n,
       extract(epoch from brainops.now() - min(scheduled_for) filter (where status = 'pending' and scheduled_for <= brainops.now()))::float8 as late
     from brainops.jobs where status not in ('completed', 'cancelled', 'skipped') group by table_name, status`,
  );
  for (const queue of queues) {
    rows.set({ table: queue.table_name, status: queue.status }, queue.n);
    if (queue.late !== null) oldest.set({ table: queue.table_name }, queue.late);
  }
}

async function setStalled(readStalls: () => Promise<readonly Stalled[]>): Promise<void> {
  for (const { table, since } of await readStalls()) {
    stalled.set({ table }, since === null ? 0 : Math.max(0, (Date.now() - since.getTime()) / 1000));
  }
}
