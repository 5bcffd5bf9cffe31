// Scores are computed in SQL (brainops_internal.score_leads), which owns the rules, the locks and the log of reasons.
import type pg from "pg";
import { codeOf } from "../../errors.ts";

const TOO_LONG = "57014";

const PAGE = 5000;

/**
 * Computes the scores of these leads and returns how many changed. Idempotent. Ignores ids that do not exist. If they
 * take too long together, each half is computed alone, so that one tenant's rules do not stop another tenant's scores;
 * throws Postgres's statement timeout for a lead that takes too long alone, after all others.
 */
export async function scoreLeads(pool: pg.Pool, ids: readonly string[]): Promise<number> {
  try {
    const { rows } = await pool.query<{ changed: number }>("select brainops_internal.score_leads($1) as changed", [
      ids,
    ]);
    return rows[0]?.changed ?? 0;
  } catch (error) {
    if (codeOf(error) !== TOO_LONG || ids.length < 2) throw error;
  }
  const middle = Math.ceil(ids.length / 2);
  const halves = [ids.slice(0, middle), ids.slice(middle)].map((half) => () => scoreLeads(pool, half));
  let changed = 0;
  const failures: unknown[] = [];
  for (const half of halves)
    await half().then(
      (n) => (changed += n),
      (error: unknown) => failures.push(error),
    );
  if (failures.length > 0) throw failures[0];
  return changed;
}

/**
 * Computes the scores of leads whose points have decayed: goes through all leads in pages, one transaction each, and
 * updates the scores that changed. Returns how many. Stops after the current page when `signal` aborts; the next run
 * starts from the first page. A page that takes too long is divided, and a lead that takes too long alone is left out.
 */
export async function scoreFaded(pool: pg.Pool, signal: AbortSignal): Promise<number> {
  let total = 0;
  let after: string | null = null;
  let page = PAGE;
  let ended = false;
  while (!ended && !signal.aborted) {
    try {
      const { rows }: pg.QueryResult<{ last_id: string | null; rescored: number }> = await pool.query(
        "select last_id, rescored from brainops_internal.rescore_stale($1, $2)",
        [after, page],
      );
      after = rows[0]?.last_id ?? null;
      ended = after === null;
      total += rows[0]?.rescored ?? 0;
      page = Math.min(page * 2, PAGE);
    } catch (error) {
      if (codeOf(error) !== TOO_LONG) throw error;
      if (page === 1) {
        after = await nextLead(pool, after);
        ended = after === null;
      }
      page = Math.max(1, Math.floor(page / 10));
    }
  }
  return total;
}

async function nextLead(pool: pg.Pool, after: string | null): Promise<string | null> {
  const { rows } = await pool.query<{ id: string }>(
    "select id from public.revenue_leads where $1::uuid is null or id > $1 order by id limit 1",
    [after],
  );
  return rows[0]?.id ?? null;
}
