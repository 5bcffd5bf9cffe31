// `brainops status`: the state of each job table, by tenant, for the tenants that this login may see.
import { setTimeout as sleep } from "node:timers/promises";
import { Command } from "commander";
import type pg from "pg";
import { loadConfig } from "../config.ts";
import { codeOf } from "../errors.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { duration, paint, table, type Cell } from "./terminal.ts";

interface Queue {
  readonly table: string;
  readonly tenant: string;
  readonly due: number;
  readonly later: number;
  readonly processing: number;
  readonly completed_last_hour: number;
  readonly failed: number;
  readonly unconfirmed: number;
  readonly awaiting_approval: number;
  readonly oldest_due_s: number | null;
  readonly waiting_for: string | null;
}

interface WorkerState {
  readonly host: string;
  readonly pid: number;
  readonly state: string;
  readonly up_s: number;
  readonly tasks: string[];
}

interface BreakerState {
  readonly account: string;
  readonly state: string;
  readonly failures: number;
  readonly retry_at: Date | null;
  readonly last_error: string | null;
}

/** workers and breakers are null if the login may not see them, because they concern all tenants. */
interface Status {
  readonly at: Date;
  readonly queues: readonly Queue[];
  readonly workers: readonly WorkerState[] | null;
  readonly breakers: readonly BreakerState[] | null;
}

const QUEUES = `
  select
    table_name as table,
    coalesce(t.slug, tenant_id::text) as tenant,
    coalesce(q.due, 0)::int as due,
    coalesce(q.later, 0)::int as later,
    coalesce(q.processing, 0)::int as processing,
    coalesce(done.completed, 0)::int as completed_last_hour,
    coalesce(q.failed, 0)::int as failed,
    coalesce(q.unconfirmed, 0)::int as unconfirmed,
    coalesce(q.awaiting_approval, 0)::int as awaiting_approval,
    extract(epoch from q.oldest_due)::float8 as oldest_due_s,
    q.waiting_for
  from brainops.queue_health as q
  full join (
    select table_name, tenant_id, count(*) as completed
    from brainops.jobs
    where status = 'completed' and finished_at > brainops.now() - interval '1 hour'
    group by table_name, tenant_id
  ) as done using (table_name, tenant_id)
  left join public.tenants as t on t.id = tenant_id
  order by table_name, tenant
`;

const WORKERS = `
  select host, pid, state, extract(epoch from now() - started_at)::float8 as up_s, tasks
  from brainops.workers
  order by started_at
`;

const BREAKERS = "select account, state, failures, retry_at, last_error from brainops.breakers order by account";

export function statusCommand(): Command {
  return new Command("status")
    .description("show due, running and failed rows of each job table, by tenant; workers; circuit breakers")
    .option("--watch", "redraw when rows change (on a terminal only)", false)
    .option("--json", "print JSON", false)
    .action(async (flags: { readonly watch: boolean; readonly json: boolean }) => {
      await withClient(requireDatabaseUrl(loadConfig()), "status", async (client) => {
        const status = await readStatus(client);
        if (flags.json) process.stdout.write(`${JSON.stringify(status)}\n`);
        else if (flags.watch && process.stdout.isTTY) await watch(client);
        else process.stdout.write(render(status));
      });
    });
}

async function readStatus(client: pg.Client): Promise<Status> {
  const { rows: queues } = await client.query<Queue>(QUEUES);
  return {
    at: new Date(),
    queues,
    workers: await visible(client.query<WorkerState>(WORKERS)),
    breakers: await visible(client.query<BreakerState>(BREAKERS)),
  };
}

/** The rows of the query; null if the login lacks the privilege. */
async function visible<Row extends pg.QueryResultRow>(result: Promise<pg.QueryResult<Row>>): Promise<Row[] | null> {
  try {
    return (await result).rows;
  } catch (error) {
    if (codeOf(error) === "42501") return null;
    throw error;
  }
}

// Redraws at most once a second, and at least every 5 seconds, because "oldest due" grows without a change.
const MIN_INTERVAL_MS = 1000;
const MAX_INTERVAL_MS = 5000;

/** Draws until Ctrl-C. A notification is only a hint: every drawing reads the database. */
async function watch(client: pg.Client): Promise<void> {
  const interrupted = new AbortController();
  process.once("SIGINT", () => interrupted.abort());
  let wake = (): void => {};
  client.on("notification", () => wake());
  // The next query throws the error that ended the connection.
  client.on("end", () => wake());
  interrupted.signal.addEventListener("abort", () => wake());
  await client.query("listen brainops_jobs");
  process.stdout.write("\u001b[2J");
  while (!interrupted.signal.aborted) {
    const changed = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const drawing = render(await readStatus(client));
    const lines = drawing.split("\n").map((line) => `${line}\u001b[K`);
    process.stdout.write(`\u001b[H${lines.join("\n")}${paint("faint", "Ctrl-C ends")}\u001b[J`);
    await Promise.race([changed, pause(MAX_INTERVAL_MS, interrupted.signal)]);
    await pause(MIN_INTERVAL_MS, interrupted.signal);
  }
  process.stdout.write("\n");
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => {
    // interrupted
  });
}

function render(status: Status): string {
  return [
    renderQueues(status.queues),
    renderWorkers(status.workers),
    renderBreakers(status.breakers),
    paint("faint", `as of ${status.at.toISOString()}`),
    "",
  ].join("\n");
}

function renderQueues(queues: readonly Queue[]): string {
  if (queues.length === 0) return "no job rows: none unfinished, none completed within the last hour\n";
  const highlight = (count: number, tone: "bad" | "warn"): Cell => (count === 0 ? 0 : { text: count, tone });
  return table(
    [
      "table",
      "tenant",
      "due",
      "later",
      "processing",
      "done (1 h)",
      "failed",
      "unconfirmed",
      "approval",
      "oldest due",
      "waiting for",
    ],
    queues.map((queue) => [
      queue.table,
      queue.tenant,
      queue.due,
      queue.later,
      queue.processing,
      queue.completed_last_hour,
      highlight(queue.failed, "bad"),
      highlight(queue.unconfirmed, "warn"),
      queue.awaiting_approval,
      queue.oldest_due_s === null ? null : duration(queue.oldest_due_s),
      queue.waiting_for ?? "",
    ]),
  );
}

function renderWorkers(workers: readonly WorkerState[] | null): string {
  if (workers === null) return "workers: not visible to this login\n";
  if (workers.length === 0) return "workers: none; start one with `brainops work`\n";
  return table(
    ["worker", "process", "state", "up", "tasks"],
    workers.map(({ host, pid, state, up_s: up, tasks }) => [
      host,
      pid,
      { text: state, tone: state === "alive" ? "good" : "bad" },
      duration(up),
      tasks.join(", "),
    ]),
  );
}

function renderBreakers(breakers: readonly BreakerState[] | null): string {
  if (breakers === null) return "circuit breakers: not visible to this login\n";
  if (breakers.every(({ state }) => state === "closed")) return "circuit breakers: all closed\n";
  return table(
    ["breaker", "state", "failures", "next attempt", "last error"],
    breakers.map((breaker) => [
      breaker.account,
      { text: breaker.state, tone: breaker.state === "closed" ? "good" : "bad" },
      breaker.failures,
      breaker.retry_at?.toISOString() ?? null,
      breaker.last_error ?? "",
    ]),
  );
}
