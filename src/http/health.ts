// For whoever runs the process: does it live (healthz), can it work (readyz), what does it do
// (metrics).
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { codeOf } from "../errors.ts";
import { renderMetrics } from "../telemetry/metrics.ts";

const READY_WITHIN_MS = 1000;

export interface HealthOptions {
  readonly pool: pg.Pool;
  readonly workerHealth?: () => { ok: boolean; reason?: string };
}

export function serveHealth(app: FastifyInstance, { pool, workerHealth }: HealthOptions): void {
  // Asks nothing: a process must not be killed because Postgres is away.
  app.get("/healthz", { config: { access: "public" } }, async () => ({ status: "ok" }));

  const askDatabase = once(() => databaseObstacle(pool));
  app.get("/readyz", { config: { access: "public" } }, async (_request, reply) => {
    const worker = workerHealth?.() ?? { ok: true };
    const reasons = [await askDatabase(), worker.ok ? null : `worker: ${worker.reason ?? "not able to work"}`];
    const obstacles = reasons.filter((reason) => reason !== null);
    if (obstacles.length === 0) return { status: "ready" };
    return reply.code(503).send({ status: "not ready", reasons: obstacles });
  });

  app.get("/metrics", { config: { access: "metrics-token" } }, async (_request, reply) => {
    const { contentType, body } = await renderMetrics(pool);
    return reply.type(contentType).send(body);
  });
}

// What the routes call. A name that is not there is null, as is a privilege on it.
const needed = `
  select
    coalesce(bool_and(f.oid is not null), false) as migrated,
    coalesce(bool_and(has_function_privilege(f.oid, 'execute')), false) as allowed
  from unnest(array[
    to_regprocedure('brainops_internal.record_webhook_events(text, jsonb, uuid)'),
    to_regprocedure('brainops_internal.unsubscribe(text)')
  ]) as f (oid)
`;

const notMigrated = "the database is not migrated; run brainops migrate";
const notAllowed = "the login of DATABASE_URL lacks the role brainops_system; grant it";

/** What keeps the database from being used, as a sentence without names of hosts; null for nothing. */
async function databaseObstacle(pool: pg.Pool): Promise<string | null> {
  const asked = pool
    .query<{ migrated: boolean; allowed: boolean }>({ text: needed, query_timeout: READY_WITHIN_MS } as pg.QueryConfig)
    .then(({ rows }) => {
      if (rows[0]?.migrated !== true) return notMigrated;
      return rows[0].allowed ? null : notAllowed;
    })
    // 42501: not even the schema may be looked into.
    .catch((error: unknown) => (codeOf(error) === "42501" ? notAllowed : "Postgres is out of reach"));
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, READY_WITHIN_MS, "Postgres gave no answer within a second");
  });
  return Promise.race([asked, late]).finally(() => clearTimeout(timer));
}

/** Calls that come while one is under way share its answer: many probes never fill the pool. */
function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<T> | null = null;
  return () => {
    underWay ??= ask().finally(() => {
      underWay = null;
    });
    return underWay;
  };
}
