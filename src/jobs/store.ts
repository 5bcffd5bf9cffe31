// Claim and settle as the worker calls them: one row at a time by the handlers, in batches on the
// wire. The rules are brainops.claim and brainops.settle in sql/0005.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { isConnectionLost } from "../db/pool.ts";
import { runAsTenant } from "../db/tenant.ts";
import { createBatcher } from "./batcher.ts";
import type { JobRow } from "./define.ts";
import type { Outcome } from "./outcome.ts";
import { insist, rowsOf, settleAll, type Settlement } from "./settlements.ts";

/** A row of brainops.job_tables, as far as the worker needs it. */
export interface JobTable {
  readonly table_name: string;
  readonly relation: string;
  readonly task_identifier: string;
  readonly effect_is_idempotent: boolean;
  readonly sender: string | null;
  readonly time_limit_ms: number;
  /** Reads claimed rows where the job names no query of its own. */
  readonly load: string;
}

export interface Claimed {
  readonly row: JobRow;
  readonly lease: string;
}

/** How a row's turn ended, and whether its effect had begun. */
export interface Ended {
  readonly outcome: Outcome;
  readonly reachedSender: boolean;
}

export interface Store {
  /** The row, ours under a lease; null where it may not go now, or is somebody else's. */
  claim(table: JobTable, load: string, tenantId: string, id: string): Promise<Claimed | null>;
  /** Writes the outcome where the lease still holds; the status it led to, or null where it did not. */
  settle(table: JobTable, tenantId: string, claimed: Claimed, ended: Ended): Promise<string | null>;
  /** Rows whose effect is under way here. */
  readonly inFlight: ReadonlySet<string>;
}

interface ClaimAnswer {
  readonly id: string;
  readonly outcome: string;
}

// One settle carries this many rows at most: bounds the transaction and the locks it holds.
const BATCH_SIZE = 250;
const UNCLAIM_FOR_MS = 10 * 60_000;

export function createStore(pool: pg.Pool, workerId: string): Store {
  const inFlight = new Set<string>();
  const tables = new Map<string, { table: JobTable; load: string }>();
  const keyOf = (table: JobTable, tenantId: string): string => `${tenantId} ${table.table_name}`;
  const tenantOf = (key: string): string => key.slice(0, 36);
  const tableOf = (key: string): { table: JobTable; load: string } => {
    const found = tables.get(key.slice(37));
    if (found === undefined) throw new Error(`no table for batch ${key}`);
    return found;
  };

  const claims = createBatcher<string, Claimed | null>({
    size: BATCH_SIZE,
    parallel: 3,
    run: async (key, ids) => {
      const { table, load } = tableOf(key);
      for (let attempt = 1; ; attempt += 1) {
        const claim = { table, load, tenantId: tenantOf(key), ids, workerId, lease: randomUUID() };
        try {
          return await claimBatch(pool, claim);
        } catch (error) {
          if (!isConnectionLost(error)) throw error;
          // The commit may have gone through unheard. No effect has begun, so give the rows back,
          // as soon as Postgres is there again, and claim them anew: a failure would make
          // graphile-worker wait, longer each time.
          await unclaim(pool, claim);
          if (attempt === 3) throw error;
        }
      }
    },
  });

  const settles = createBatcher<Settlement, string | null>({
    size: BATCH_SIZE,
    parallel: 3,
    run: (key, settlements) => settleAll(pool, tableOf(key).table, tenantOf(key), settlements),
  });

  return {
    inFlight,
    claim: async (table, load, tenantId, id) => {
      tables.set(table.table_name, { table, load });
      const claimed = await claims(keyOf(table, tenantId), id);
      if (claimed !== null) inFlight.add(id);
      return claimed;
    },
    settle: async (table, tenantId, claimed, ended) => {
      try {
        return await settles(keyOf(table, tenantId), { id: claimed.row.id, lease: claimed.lease, ...ended });
      } finally {
        inFlight.delete(claimed.row.id);
      }
    },
  };
}

interface ClaimBatch {
  readonly table: JobTable;
  readonly load: string;
  readonly tenantId: string;
  readonly ids: readonly string[];
  readonly workerId: string;
  /** One for the whole batch: what it claimed can be told from every other claim. */
  readonly lease: string;
}

async function claimBatch(pool: pg.Pool, claim: ClaimBatch): Promise<(Claimed | null)[]> {
  const { table, load, tenantId, ids, workerId, lease } = claim;
  const [claimed, loaded] = await runAsTenant(pool, tenantId, [
    {
      name: "claim",
      text: "select id, outcome from brainops.claim($1, $2, $3, $4)",
      values: [table.table_name, ids, workerId, lease],
    },
    { name: `load ${table.table_name}`, text: load, values: [ids] },
  ]);
  const rows = new Map(rowsOf<JobRow>(loaded).map((row) => [row.id, row]));
  const ours = new Set(rowsOf<ClaimAnswer>(claimed).flatMap(({ id, outcome }) => (outcome === "go" ? [id] : [])));
  await refuseUnloaded(
    pool,
    claim,
    [...ours].filter((id) => !rows.has(id)),
  );
  return ids.map((id) => {
    const row = rows.get(id);
    // The same id twice in one batch is one claim.
    return row !== undefined && ours.delete(id) ? { row, lease } : null;
  });
}

/** Rows that are claimed but that the job's own query leaves out: nothing can be done with them. */
async function refuseUnloaded(
  pool: pg.Pool,
  { table, tenantId, lease }: ClaimBatch,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  const outcome: Outcome = {
    kind: "fail",
    reason: `the query of task ${table.task_identifier} returns nothing for the row`,
  };
  await settleAll(
    pool,
    table,
    tenantId,
    ids.map((id) => ({ id, lease, outcome, reachedSender: false })),
  );
}

async function unclaim(pool: pg.Pool, { table, tenantId, ids, lease }: ClaimBatch): Promise<void> {
  const statement = { text: "select brainops.unclaim($1, $2, $3)", values: [table.table_name, ids, lease] };
  await insist(() => runAsTenant(pool, tenantId, [statement]), UNCLAIM_FOR_MS);
}
