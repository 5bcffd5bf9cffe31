// Health of the process, for its operator: whether it is alive (healthz), whether it can work (readyz), and what it
// does (metrics).
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
  // Runs no query: a process must not be killed because Postgres is unreachable.
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

// Before the first migration the row does not exist; until that migration has succeeded, its release is null.
const needed = `
  select ${releaseColumns}, pg_has_role('brainops_system', 'usage') as allowed
  from (select) as one left join brainops.release on true
`;

const notAllowed = "the login of DATABASE_URL lacks the role brainops_system; grant it";

/** Why the database cannot be used, as one sentence without host names; null if it can. */
async function databaseObstacle(pool: pg.Pool): Promise<string | null> {
  const asked = pool
    .query<StoredRelease & { allowed: boolean }>({ text: needed, query_timeout: READY_WITHIN_MS } as pg.QueryConfig)
    .then(({ rows }) => {
      const [row] = rows;
      if (row?.allowed === false) return notAllowed;
      return releaseProblem(row ?? null)?.text ?? null;
    })
    .catch((error: unknown) => {
      // 42501: no privilege on the schema. 42P01: the table does not exist, because nothing was ever migrated.
      if (codeOf(error) === "42501") return notAllowed;
      return codeOf(error) === "42P01" ? (releaseProblem(null)?.text ?? null) : "Postgres is unreachable";
    });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string>((resolve) => {
    timer = setTimeout(resolve, READY_WITHIN_MS, "Postgres did not answer within one second");
  });
  return Promise.race([asked, late]).finally(() => clearTimeout(timer));
}

/** Calls share the answer of a call in progress, so that many probes never use up the pool. */
function once<T>(ask: () => Promise<T>): () => Promise<T> {
  let underWay: Promise<T> | null = null;
  return () => {
    underWay ??= ask().finally(() => {
      underWay = null;
    });
    return underWay;
  };
}
