// Scores are reckoned in SQL (sql/0013, score_leads): the rules, the locks and the log of reasons are there.
import type pg from "pg";

/** Reckons the scores of these leads. Returns how many changed. Twice is as once. */
export async function scoreLeads(pool: pg.Pool, ids: readonly string[]): Promise<number> {
  const { rows } = await pool.query<{ changed: number }>("select brainops_internal.score_leads($1) as changed", [ids]);
  return rows[0]?.changed ?? 0;
}

/**
 * Goes through all leads page by page, each in a transaction of its own, and reckons those whose
 * score would be another one by now. Returns how many; stops early when told to, the rest waits for
 * the next night.
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
