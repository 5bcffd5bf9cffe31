// For whoever runs the process: does it live (healthz), can it work (readyz), what does it do
// (metrics).
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { releaseColumns, releaseProblem, type StoredRelease } from "../db/migrate/release.ts";
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

// The row is missing until the first migration has begun, its release until that has succeeded.
const needed = `
  select ${releaseColumns}, pg_has_role('brainops_system', 'usage') as allowed
  from (select) as one left join brainops.release on true
`;

const notAllowed = "the login of DATABASE_URL lacks the role brainops_system; grant it";

/** What keeps the database from being used, as a sentence without names of hosts; null for nothing. */
async function databaseObstacle(pool: pg.Pool): Promise<string | null> {
  const asked = pool
    .query<StoredRelease & { allowed: boolean }>({ text: needed, query_timeout: READY_WITHIN_MS } as pg.QueryConfig)
    .then(({ rows }) => {
      const [row] = rows;
      if (row?.allowed === false) return notAllowed;
      return releaseProblem(row ?? null)?.text ?? null;
    })
    .catch((error: unknown) => {
      // No privilege on the schema; no table, where nothing was ever migrated.
      if (codeOf(error) === "42501") return notAllowed;
      return codeOf(error) === "42P01" ? (releaseProblem(null)?.text ?? null) : "Postgres is out of reach";
    });
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
