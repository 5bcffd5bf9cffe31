// Health of the process, for its operator: whether it is alive (healthz), whether it can work (readyz), and what it
// does (metrics).
import type { FastifyInstance } from "fastify";
import type pg from "pg";
import { releaseColumns, releaseProblem, type StoredRelease } from "../db/migrate/release.ts";
import { isTimeLimit } from "../db/pool.ts";
import { codeOf } from "../errors.ts";
import { readStalls, textOfStall } from "../telemetry/stalls.ts";
import { renderMetrics } from "../telemetry/metrics.ts";

const READY_WITHIN_MS = 1000;

export interface HealthOptions {
  readonly pool: pg.Pool;
  /** A pool of its own, so that readiness does not depend on what other requests wait for. Its limits are limits.probe. */
  readonly probePool: pg.Pool;
  readonly workerHealth?: () => { ok: boolean; reason?: string };
}

export function serveHealth(app: FastifyInstance, { pool, probePool, workerHealth }: HealthOptions): void {
  // Runs no query: a process must not be killed because Postgres is unreachable.
  app.get("/healthz", { config: { access: "public" } }, async () => ({ status: "ok" }));

  const askDatabase = once(() => databaseObstacles(probePool));
  app.get("/readyz", { config: { access: "public" } }, async (_request, reply) => {
    const worker = workerHealth?.() ?? { ok: true };
    const reasons = [...(await askDatabase()), worker.ok ? null : `worker: ${worker.reason ?? "not able to work"}`];
    const obstacles = reasons.filter((reason) => reason !== null);
    if (obstacles.length === 0) return { status: "ready" };
    return reply.code(503).send({ status: "not ready", reasons: obstacles });
  });

  app.get("/metrics", { config: { access: "metrics-token" } }, async (_request, reply) => {
    const { contentType, body } = await renderMetrics(pool, () => readStalls(probePool), isTimeLimit);
    return reply.type(contentType).send(body);
  });
}

// Before the first migration the row does not exist; until that migration has succeeded, its release is null.
const needed = `
  select ${releaseColumns}, pg_has_role('brainops_system', 'usage') as allowed
  from (select) as one left join brainops.release on true
`;

const notAllowed = "the login of DATABASE_URL lacks the role brainops_system; grant it";

/** Why the database cannot be used, or does no work, as sentences without host names; empty if it works. */
async function databaseObstacles(pool: pg.Pool): Promise<string[]> {
  const asked = askRelease(pool)
    .then(async (obstacle) => (obstacle === null ? await askStalls(pool) : [obstacle]))
    .catch((error: unknown) => [
      isTimeLimit(error)
        ? "cannot read whether rows are claimed: Postgres is waiting for a lock"
        : "Postgres is unreachable",
    ]);
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<string[]>((resolve) => {
    timer = setTimeout(resolve, READY_WITHIN_MS, ["Postgres did not answer within one second"]);
  });
  return Promise.race([asked, late]).finally(() => clearTimeout(timer));
}

async function askRelease(pool: pg.Pool): Promise<string | null> {
  try {
    const { rows } = await pool.query<StoredRelease & { allowed: boolean }>(needed);
    const [row] = rows;
    if (row?.allowed === false) return notAllowed;
    return releaseProblem(row ?? null)?.text ?? null;
  } catch (error) {
    // 42501: no privilege on the schema. 42P01: the table does not exist, because nothing was ever migrated.
    if (codeOf(error) === "42501") return notAllowed;
    if (codeOf(error) === "42P01") return releaseProblem(null)?.text ?? null;
    throw error;
  }
}

async function askStalls(pool: pg.Pool): Promise<string[]> {
  return (await readStalls(pool)).map(textOfStall);
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
