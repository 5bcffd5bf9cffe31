// Scores are computed in SQL (brainops_internal.score_leads), which owns the rules, the locks and the log of reasons.
import type pg from "pg";

/** Computes the scores of these leads and returns how many changed. Idempotent. Ignores ids that do not exist. */
export async function scoreLeads(pool: pg.Pool, ids: readonly string[]): Promise<number> {
  const { rows } = await pool.query<{ changed: number }>("select brainops_internal.score_leads($1) as changed", [ids]);
  return rows[0]?.changed ?? 0;
}

/**
 * Computes the scores of leads whose points have decayed: goes through all leads in pages, one transaction each, and
 * updates the scores that changed. Returns how many. Stops after the current page when `signal` aborts; the next run
 * starts from the first page.
 */
export async function scoreFaded(pool: pg.Pool, signal: AbortSignal): Promise<number> {
  let total = 0;
  let after: string | null = null;
  do {
    const { rows }: pg.QueryResult<{ last_id: string | null; rescored: number }> = await pool.query(
      "select last_id, rescored from brainops_internal.rescore_stale($1)",
      [after],
    );
    after = rows[0]?.last_id ?? null;
    total += rows[0]?.rescored ?? 0;
  } while (after !== null && !signal.aborted);
  return total;
}
