// Claim and settle as run.ts calls them: for one row at a time, gathered into batches here. The
// rules are SQL (brainops_internal.claim, brainops_internal.settle).
import type pg from "pg";
import { createBatcher } from "./batcher.ts";
import { claimBatch, type Claimer } from "./claims.ts";
import type { HoldUps } from "./holdUps.ts";
import { createInFlight } from "./inFlight.ts";
import type { Result } from "./outcome.ts";
import { settleBatch } from "./settlements.ts";
import type { Claimed, JobTable, OnSuspects, Settlement } from "./types.ts";

export interface Store {
  /**
   * Claims the row, and due rows with the same bulk key. Empty if the row may not go out now, is another worker's,
   * or was claimed together with another row of its bulk.
   */
  claim(table: JobTable, tenantId: string, id: string): Promise<readonly Claimed[]>;
  /** Writes the result if the lease still holds. Returns the row's new status, or null if the lease did not hold. */
  settle(table: JobTable, tenantId: string, claimed: Claimed, result: Result): Promise<string | null>;
  /** These rows take no room from others any more: their tenant's rows are held up. */
  setAside(claimed: readonly Claimed[]): void;
  readonly inFlight: { readonly size: number };
}

// Maximum rows that one transaction names: bounds its duration and the locks it holds. A claim may take more (bulk).
const CLAIM_SIZE = 250;
const SETTLE_SIZE = 1000;
// No bulk rows are claimed while more rows are in flight: bounds memory, whatever the size of the broadcast.
const MAX_IN_FLIGHT = 4000;

export function createStore(
  pool: pg.Pool,
  workerId: string,
  holdUps: HoldUps,
  reports: Claimer["reports"] = { succeeded: () => {}, failed: () => {} },
  onSuspects: OnSuspects = () => {},
): Store {
  const inFlight = createInFlight(MAX_IN_FLIGHT);
  const claim = createBatcher<string, readonly Claimed[]>({
    size: CLAIM_SIZE,
    run: async (batch, release) => {
      if (batch.table.loadBulk !== null) await inFlight.room();
      return claimBatch({ pool, workerId, inFlight, holdUps, reports, onSuspects }, batch, release);
    },
  });
  const settle = createBatcher<Settlement, string | null>({
    size: SETTLE_SIZE,
    run: ({ table, tenantId, items }) =>
      holdUps.write(table, tenantId, (watched) => settleBatch(pool, table, tenantId, items, watched)),
  });
  return {
    inFlight,
    claim: (table, tenantId, id) => {
      // Before the row gathers with others: these may wait for a batch that is held up.
      holdUps.check(table, tenantId);
      return claim(table, tenantId, id);
    },
    setAside: (claimed) => inFlight.setAside(claimed.map(({ row }) => row.id)),
    settle: async (table, tenantId, { row: { id }, lease, account }, result) => {
      try {
        return await settle(table, tenantId, { id, lease, account, ...result });
      } finally {
        inFlight.remove([id]);
      }
    },
  };
}
