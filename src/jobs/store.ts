// Claim and settle as the worker calls them: one row at a time by the handlers, in batches on the
// wire. The rules are brainops.claim (sql/0024) and brainops.settle (sql/0021).
import type pg from "pg";
import { createBatcher } from "./batcher.ts";
import { claimBatch } from "./claims.ts";
import type { JobRow } from "./define.ts";
import { createInHand } from "./inHand.ts";
import type { Ended } from "./outcome.ts";
import { settleAll, type Settlement } from "./settlements.ts";

/** A row of brainops.job_tables, as far as the worker needs it. */
export interface JobTable {
  readonly table_name: string;
  readonly relation: string;
  readonly task_identifier: string;
  readonly effect_is_idempotent: boolean;
  readonly sender: string | null;
  readonly time_limit_ms: number;
  /** Reads claimed rows. */
  readonly load: string;
  /** Reads claimed rows that have a batch; null where the job takes each row alone. */
  readonly loadBatch: string | null;
  /** What keeps this worker from the accounts of the job's provider; both null where it needs none. */
  readonly lacks: Lacks;
}

/** Why rows wait here, as the sentence they show; null where they need not. */
export interface Lacks {
  /** Tenants without an account of their own. */
  readonly platform: string | null;
  /** Tenants with one. */
  readonly own: string | null;
}

export interface Claimed {
  readonly row: JobRow;
  readonly lease: string;
  /** What it shares with rows that may go out in one call with it; null for none. */
  readonly batch: string | null;
  /** Whose breaker the effect counts for: the table's sender, or sender:tenant; null for none. */
  readonly sender: string | null;
  /** brainops.now() as of the claim, and on from there. */
  readonly now: () => Date;
}

export interface Store {
  /**
   * The row, ours under a lease, and what came along of its batch. Empty where it may not go now,
   * is somebody else's, or came along with another.
   */
  claim(table: JobTable, tenantId: string, id: string): Promise<readonly Claimed[]>;
  /** Writes the outcome where the lease still holds; the status it led to, or null where it did not. */
  settle(table: JobTable, tenantId: string, claimed: Claimed, ended: Ended): Promise<string | null>;
  /** Rows that are ours, from their claim until their outcome is written. */
  readonly inHand: { readonly size: number };
}

// Rows that a claim names, and that a settle writes, at most: bounds the transactions and the locks they hold.
const CLAIM_SIZE = 250;
const SETTLE_SIZE = 1000;
// Rows in hand beyond which no more batches are claimed: bounds memory, whatever the broadcast's size.
const MOST_IN_HAND = 4000;

export function createStore(pool: pg.Pool, workerId: string): Store {
  const inHand = createInHand(MOST_IN_HAND);
  const tables = new Map<string, JobTable>();
  const keyOf = (table: JobTable, tenantId: string): string => `${tenantId} ${table.table_name}`;
  const tenantOf = (key: string): string => key.slice(0, 36);
  const tableOf = (key: string): JobTable => {
    const found = tables.get(key.slice(37));
    if (found === undefined) throw new Error(`no table for batch ${key}`);
    return found;
  };

  // Done once the claim is: while its rows are loaded, the next claim gathers and goes. In an object,
  // since a promise of a promise would wait for both.
  const claims = createBatcher<string, { readonly group: Promise<readonly Claimed[]> }>({
    size: CLAIM_SIZE,
    run: async (key, ids) => {
      const table = tableOf(key);
      if (table.loadBatch !== null) await inHand.room();
      const { answered, groups } = claimBatch(pool, { table, tenantId: tenantOf(key), ids, workerId }, inHand);
      await answered;
      return ids.map((_, index) => ({ group: groups.then((all) => all[index] ?? []) }));
    },
  });

  const settles = createBatcher<Settlement, string | null>({
    size: SETTLE_SIZE,
    run: (key, settlements) => settleAll(pool, tableOf(key), tenantOf(key), settlements),
  });

  return {
    inHand,
    claim: async (table, tenantId, id) => {
      tables.set(table.table_name, table);
      const { group } = await claims(keyOf(table, tenantId), id);
      return group;
    },
    settle: async (table, tenantId, { row, lease, sender }, ended) => {
      try {
        return await settles(keyOf(table, tenantId), { id: row.id, lease, sender, ...ended });
      } finally {
        inHand.remove([row.id]);
      }
    },
  };
}
