// Which outcomes of a handler count for the provider account: those after a request has left.
import { createServer } from "node:http";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { createPool } from "../../src/db/pool.ts";
import { createDeadlines } from "../../src/jobs/deadlines.ts";
import { noHoldUps } from "../../src/jobs/holdUps.ts";
import { defineBulk, defineJob, type JobContext } from "../../src/jobs/define.ts";
import type { Outcome, Result } from "../../src/jobs/outcome.ts";
import { runJob } from "../../src/jobs/run.ts";
import type { Claimed, JobTable } from "../../src/jobs/types.ts";
import { log, testConfig } from "../support/worker.ts";

const id = crypto.randomUUID();
const tenantId = crypto.randomUUID();
const provider = createServer((_request, response) => response.end("ok"));
let url: string;
/** A port on which nothing listens. */
let refused: string;
// Nothing listens there, so every statement fails.
const pool = createPool({
  connectionString: "postgres://nobody@127.0.0.1:1/none",
  applicationName: "t",
  pipeline: true,
});

beforeAll(async () => {
  const free = createServer().listen(0, "127.0.0.1");
  provider.listen(0, "127.0.0.1");
  await Promise.all([once(free, "listening"), once(provider, "listening")]);
  url = `http://127.0.0.1:${(provider.address() as AddressInfo).port}`;
  refused = `http://127.0.0.1:${(free.address() as AddressInfo).port}`;
  free.close();
});
afterAll(async () => {
  provider.closeAllConnections();
  provider.close();
  await pool.end();
});

type Effect = (context: JobContext) => Promise<Outcome>;

/** The results that one row, or two rows of a bulk, are settled with. */
async function run(effect: Effect, { bulk = false, limitMs = 5000 } = {}): Promise<Result[]> {
  const results: Result[] = [];
  const table: JobTable = {
    table_name: "custom_jobs",
    task_identifier: "custom__send",
    effect_is_idempotent: false,
    time_limit_ms: limitMs,
    load: "",
    loadBulk: null,
    missingCredentials: { platform: null, tenant: null },
  };
  const claimed: Claimed = {
    row: { id, tenant_id: tenantId, attempts: 1, max_attempts: 5 },
    lease: "l",
    bulk: bulk ? "b" : null,
    account: "custom",
    now: () => new Date(0),
  };
  const store = {
    claim: async () => (bulk ? [claimed, claimed] : [claimed]),
    settle: async (_table: JobTable, _tenantId: string, _row: Claimed, result: Result) => {
      results.push(result);
      return "completed";
    },
    setAside: () => {},
    inFlight: { size: 0 },
  };
  const job = defineJob({
    table: "custom_jobs",
    effect: (_row, context) => effect(context),
    bulk: defineBulk({
      load: "",
      effect: async (rows, context) => {
        const outcome = await effect(context);
        return rows.map((_, index) => ({ outcome, providerCalled: index === 0 }));
      },
    }),
  });
  const runtime = { config: testConfig(null), log, pool, store, holdUps: noHoldUps, deadlines: createDeadlines() };
  await runJob(runtime, job, table, { id, tenant_id: tenantId });
  return results;
}

const call = (): Promise<Response> => fetch(url, { method: "POST" });
const unavailable = { kind: "retry", reason: "unavailable" } as const;

const counted: [string, Effect][] = [
  ["an answer", () => call().then(() => ({ kind: "completed" }))],
  ["an answer that means a retry", () => call().then(() => unavailable)],
  [
    "an error after the answer",
    async () => {
      await call();
      throw new Error("the answer has no id");
    },
  ],
  ["a refused connection", () => fetch(refused).then(() => ({ kind: "completed" }))],
  ["a call that takes longer than the time limit", () => call().then(() => new Promise<never>(() => {}))],
  [
    "a call that the handler reports itself",
    async ({ markCalled }) => {
      markCalled();
      return unavailable;
    },
  ],
];
const uncounted: [string, Effect][] = [
  ["an error of the handler's own", () => Promise.reject(new TypeError("x is not a function"))],
  [
    "a body that cannot be serialized",
    async () => fetch(url, { method: "POST", body: JSON.stringify({ n: 1n }) }).then(() => unavailable),
  ],
  ["an error of Postgres before the call", ({ query }) => query("select 1").then(() => unavailable)],
  [
    "an error of Postgres that the handler has caught",
    ({ query }) =>
      query("select 1").then(
        () => ({ kind: "completed" }),
        () => unavailable,
      ),
  ],
  ["a time limit that passed before the call", () => new Promise<never>(() => {})],
  ["a refusal that the handler decided without a call", async () => ({ kind: "fail", reason: "no number" })],
];

describe("an outcome", () => {
  it.each(counted)("counts: %s", async (_name, effect) => {
    expect(await run(effect, { limitMs: 300 })).toMatchObject([{ providerCalled: true }]);
  });

  it.each(uncounted)("does not count: %s", async (_name, effect) => {
    expect(await run(effect, { limitMs: 300 })).toMatchObject([{ providerCalled: false }]);
  });

  it.each(counted)("counts once for the rows of a bulk: %s", async (_name, effect) => {
    const results = await run(effect, { bulk: true, limitMs: 300 });
    expect(results.map(({ providerCalled }) => providerCalled)).toEqual([true, false]);
  });

  it.each(uncounted)("does not count for the rows of a bulk: %s", async (_name, effect) => {
    const results = await run(effect, { bulk: true, limitMs: 300 });
    expect(results.map(({ providerCalled }) => providerCalled)).toEqual([false, false]);
  });
});
