// npm run bench: BrainOps compared with plain graphile-worker, in one run on one server. Each pair is
// measured in turns; prints the median of the rounds and the target. Then measures the revenue pipeline
// from end to end. BENCH_ONLY=engine or BENCH_ONLY=pipeline runs only that part.
import { fileURLToPath } from "node:url";
import pg from "pg";
import { loadConfig } from "../../src/config.ts";
import { migrate } from "../../src/db/migrate/index.ts";
import { startWorker, type Worker } from "../../src/jobs/worker.ts";
import { createLog } from "../../src/telemetry/log.ts";
import { findServer } from "../support/server.ts";
import { onServer } from "../support/sql.ts";
import { setStartListener } from "./tasks/bench__noop.ts";
import { addPeerJobs, countdown, startPeer } from "./peer.ts";
import { measurePipeline } from "./pipeline.ts";
import { median, quantile, timed, watchSteal } from "./stats.ts";

const ROUNDS = Number(process.env["BENCH_ROUNDS"] ?? 5);
const tasks = fileURLToPath(new URL("tasks", import.meta.url));
// Run as the tenant's login, as clients do.
const insertRows = "insert into bench_jobs (payload) select 'x' from generate_series(1, $1::int)";
const login = `brainops_bench_${process.pid}`;
const log = createLog({ level: "silent", human: false });

interface Line {
  readonly what: string;
  readonly ours: string;
  readonly peer: string;
  readonly ratio: string;
  readonly target: string;
}

const server = await findServer();
if (server.kind === "embedded") {
  process.stderr.write("bench needs a real Postgres: set TEST_DATABASE_URL\n");
  process.exit(78);
}
process.stdout.write(`bench on ${server.description}, median of ${ROUNDS} rounds\n`);
const steal = watchSteal();
const database = `brainops_bench_${process.pid}`;
await onServer(server.url, (client) => client.query(`create database ${database}`));
const url = new URL(server.url);
url.pathname = `/${database}`;
try {
  await migrate({ connectionString: url.href });
  const only = process.env["BENCH_ONLY"];
  if (only !== "pipeline") {
    const tenant = await prepare(url.href);
    print([
      await bulkInsert(url.href, tenant),
      await endToEnd(url.href, tenant, { concurrency: 24, batched: false, rows: 5000 }),
      await endToEnd(url.href, tenant, { concurrency: 500, batched: true, rows: 20_000 }),
      ...(await latency(url.href, tenant)),
    ]);
  }
  if (only !== "engine") {
    for (const { what, figure, target } of await measurePipeline(url.href)) {
      process.stdout.write(`${what.padEnd(58)} ${figure.padStart(46)}  ${target}\n`);
    }
  }
  const stolen = steal();
  if (stolen !== null)
    process.stdout.write(`of the machine's time its host gave others ${(stolen * 100).toFixed(1)} %\n`);
} finally {
  await onServer(server.url, async (client) => {
    await client.query(`drop database ${database} with (force)`);
    await client.query(`drop role if exists ${login}`);
  });
  await server.stop();
}

async function prepare(connectionString: string): Promise<string> {
  return onServer(connectionString, async (client) => {
    await client.query(
      "create table bench_jobs (payload text not null default 'x', inserted_at timestamptz not null default clock_timestamp())",
    );
    await client.query("select brainops.define_job_table('bench_jobs', 'bench__noop', p_effect_is_idempotent => true)");
    const { rows } = await client.query<{ id: string }>("select brainops.create_tenant('bench', 'Bench') as id");
    await client.query("select brainops.create_login('bench', $1, 'a-password-of-bench')", [login]);
    return rows[0]?.id ?? "";
  });
}

function asTenant<T>(connectionString: string, run: (client: pg.Client) => Promise<T>): Promise<T> {
  const tenantUrl = new URL(connectionString);
  tenantUrl.username = login;
  tenantUrl.password = "a-password-of-bench";
  return onServer(tenantUrl.href, run);
}

async function clean(client: pg.Client): Promise<void> {
  await client.query("truncate bench_jobs");
  await client.query("delete from graphile_worker._private_jobs");
  await client.query("vacuum analyze graphile_worker._private_jobs");
  await client.query("vacuum analyze bench_jobs");
}

async function bulkInsert(connectionString: string, tenant: string): Promise<Line> {
  const ours: number[] = [];
  const peer: number[] = [];
  await onServer(connectionString, (client) =>
    asTenant(connectionString, async (own) => {
      for (let round = 0; round <= ROUNDS; round += 1) {
        await clean(client);
        const peerMs = await timed(() => client.query(addPeerJobs, [10_000, tenant]));
        await clean(client);
        const oursMs = await timed(() => own.query(insertRows, [10_000]));
        if (round === 0) continue; // warms up plans and caches
        peer.push(peerMs);
        ours.push(oursMs);
      }
    }),
  );
  return line("insert 10,000 rows in one statement, ms", median(ours), median(peer), "at most 1.5x add_jobs");
}

async function endToEnd(
  connectionString: string,
  tenant: string,
  { concurrency, batched, rows }: { concurrency: number; batched: boolean; rows: number },
): Promise<Line> {
  const ours: number[] = [];
  const peer: number[] = [];
  await onServer(connectionString, async (client) => {
    for (let round = 0; round < ROUNDS; round += 1) {
      await clean(client);
      await client.query(addPeerJobs, [rows, tenant]);
      const { task, done } = countdown(rows);
      let runner: Awaited<ReturnType<typeof startPeer>> | undefined;
      const peerMs = await timed(async () => {
        runner = await startPeer({ url: connectionString, concurrency, batched, task });
        await done;
      });
      await runner?.stop();
      peer.push((rows / peerMs) * 1000);

      await clean(client);
      await asTenant(connectionString, (own) => own.query(insertRows, [rows]));
      let worker: Worker | undefined;
      const counted = countdown(rows);
      setStartListener(() => void counted.task());
      const oursMs = await timed(async () => {
        worker = await startBenchWorker(connectionString, concurrency);
        await counted.done;
      });
      await worker?.stop();
      ours.push((rows / oursMs) * 1000);
    }
  });
  const what = batched ? "batches" : "one by one";
  const target = batched ? "at least half of its local queue" : "at least as many as unbatched";
  return line(`claim, gate, no-op, settle; ${what}, rows/s`, median(ours), median(peer), target);
}

function startBenchWorker(connectionString: string, concurrency: number): Promise<Worker> {
  return startWorker({ connectionString, config: loadConfig({}), log, tasks: [tasks], concurrency });
}

/** Time from the client's insert to the first line of the handler, one row at a time. */
async function latency(connectionString: string, tenant: string): Promise<Line[]> {
  const samples = 300;
  const ours: number[] = [];
  const peer: number[] = [];
  await onServer(connectionString, async (client) => {
    await clean(client);
    let began = 0;
    let arrived = (): void => {};
    const runner = await startPeer({
      url: connectionString,
      concurrency: 24,
      batched: true,
      task: async () => {
        peer.push(performance.now() - began);
        arrived();
      },
    });
    for (let sample = 0; sample < samples; sample += 1) {
      const started = new Promise<void>((resolve) => (arrived = resolve));
      began = performance.now();
      await client.query(addPeerJobs, [1, tenant]);
      await started;
    }
    await runner.stop();

    const worker = await startWorker({
      connectionString,
      config: loadConfig({}),
      log,
      tasks: [tasks],
      concurrency: 24,
    });
    await asTenant(connectionString, async (own) => {
      for (let sample = 0; sample < samples; sample += 1) {
        const started = new Promise<void>((resolve) =>
          setStartListener(() => {
            ours.push(performance.now() - began);
            resolve();
          }),
        );
        began = performance.now();
        await own.query(insertRows, [1]);
        await started;
      }
    });
    await worker.stop();
  });
  return [
    line("insert to start of the handler, p50, ms", median(ours), median(peer), "at most 1.5x its own"),
    line("insert to start of the handler, p95, ms", quantile(ours, 0.95), quantile(peer, 0.95), ""),
  ];
}

function line(what: string, ours: number, peer: number, target: string): Line {
  const show = (value: number): string => (value < 100 ? value.toFixed(1) : Math.round(value).toLocaleString("en"));
  return { what, ours: show(ours), peer: show(peer), ratio: (ours / peer).toFixed(2), target };
}

function print(lines: readonly Line[]): void {
  const head: Line = { what: "", ours: "BrainOps", peer: "graphile-worker", ratio: "ratio", target: "target" };
  for (const row of [head, ...lines]) {
    process.stdout.write(
      `${row.what.padEnd(48)} ${row.ours.padStart(10)} ${row.peer.padStart(16)} ${row.ratio.padStart(6)}  ${row.target}\n`,
    );
  }
}
