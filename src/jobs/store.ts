// Claim and settle as the worker calls them: one row at a time by the handlers, in batches on the
// wire. The rules are brainops.claim and brainops.settle in sql/0021.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { isConnectionLost } from "../db/pool.ts";
import { runAsTenant, type Statement } from "../db/tenant.ts";
import { createBatcher } from "./batcher.ts";
import type { JobRow } from "./define.ts";
import type { Ended, Outcome } from "./outcome.ts";
import { insist, rowsOf, settleAll, type Settlement } from "./settlements.ts";

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
  /** Rows whose effect is under way here. */
  readonly inFlight: ReadonlySet<string>;
}

interface ClaimAnswer {
  readonly id: string;
  readonly sender: string | null;
  readonly outcome: string;
  readonly batch: string | null;
}

// Rows that a claim names, and that a settle writes, at most: bounds the transactions and the locks they hold.
const CLAIM_SIZE = 250;
const SETTLE_SIZE = 1000;
// Rows in hand beyond which no more batches are claimed: bounds memory, whatever the broadcast's size.
const MOST_IN_HAND = 4000;
const UNCLAIM_FOR_MS = 10 * 60_000;

export function createStore(pool: pg.Pool, workerId: string): Store {
  const inFlight = new Set<string>();
  const tables = new Map<string, JobTable>();
  const waiting: (() => void)[] = [];
  const keyOf = (table: JobTable, tenantId: string): string => `${tenantId} ${table.table_name}`;
  const tenantOf = (key: string): string => key.slice(0, 36);
  const tableOf = (key: string): JobTable => {
    const found = tables.get(key.slice(37));
    if (found === undefined) throw new Error(`no table for batch ${key}`);
    return found;
  };

  const claims = createBatcher<string, readonly Claimed[]>({
    size: CLAIM_SIZE,
    // A thousand recipients are loaded while the next thousand are claimed. Else one: what comes while it is
    // under way makes the next one larger.
    parallel: (key) => (tableOf(key).loadBatch === null ? 1 : 2),
    run: async (key, ids) => {
      const table = tableOf(key);
      while (table.loadBatch !== null && inFlight.size >= MOST_IN_HAND) {
        await new Promise<void>((resolve) => waiting.push(resolve));
      }
      for (let attempt = 1; ; attempt += 1) {
        const claim = { table, tenantId: tenantOf(key), ids, workerId, lease: randomUUID() };
        try {
          return await claimBatch(pool, claim);
        } catch (error) {
          // The commit may have gone through unheard. No effect has begun, so give the rows back,
          // as soon as Postgres is there again, and claim them anew: a failure would make
          // graphile-worker wait, longer each time.
          await unclaim(pool, claim);
          if (attempt === 3 || !isConnectionLost(error)) throw error;
        }
      }
    },
  });

  const settles = createBatcher<Settlement, string | null>({
    size: SETTLE_SIZE,
    parallel: () => 1,
    run: (key, settlements) => settleAll(pool, tableOf(key), tenantOf(key), settlements),
  });

  return {
    inFlight,
    claim: async (table, tenantId, id) => {
      tables.set(table.table_name, table);
      const claimed = await claims(keyOf(table, tenantId), id);
      for (const { row } of claimed) inFlight.add(row.id);
      return claimed;
    },
    settle: async (table, tenantId, claimed, ended) => {
      try {
        return await settles(keyOf(table, tenantId), settlementOf(claimed, ended));
      } finally {
        inFlight.delete(claimed.row.id);
        if (inFlight.size < MOST_IN_HAND) for (const go of waiting.splice(0)) go();
      }
    },
  };
}

interface ClaimBatch {
  readonly table: JobTable;
  readonly tenantId: string;
  readonly ids: readonly string[];
  readonly workerId: string;
  /** One for the whole batch: what it claimed can be told from every other claim. */
  readonly lease: string;
}

/** What each id of the claim led to. The rows of a batch go to the first id that belongs to it. */
async function claimBatch(pool: pg.Pool, claim: ClaimBatch): Promise<(readonly Claimed[])[]> {
  const { table, tenantId, ids, workerId, lease } = claim;
  const [claimed, loaded, clock] = await runAsTenant(pool, tenantId, [
    {
      name: "claim",
      text: "select id, outcome, sender, batch from brainops.claim($1, $2, $3, $4, $5, $6, $7)",
      values: [table.table_name, ids, workerId, lease, table.lacks.platform, table.lacks.own, table.loadBatch !== null],
    },
    { name: `load ${table.table_name}`, text: table.load, values: [ids] },
    readClock,
  ]);
  const now = clockFrom(clock);
  const answers = new Map(rowsOf<ClaimAnswer>(claimed).map((answer) => [answer.id, answer]));
  const ours = [...answers.values()].filter(({ outcome }) => outcome === "go");
  const rows = new Map(
    [...rowsOf<JobRow>(loaded), ...(await loadBatches(pool, claim, ours))].map((row) => [row.id, row]),
  );
  await refuseUnloaded(
    pool,
    claim,
    ours.flatMap(({ id }) => (rows.has(id) ? [] : [id])),
  );

  const groups = new Map<string, Claimed[]>();
  for (const { id, sender, batch } of ours) {
    const row = rows.get(id);
    if (row === undefined) continue;
    const group = groups.get(batch ?? id);
    if (group === undefined) groups.set(batch ?? id, [{ row, lease, batch, sender, now }]);
    else group.push({ row, lease, batch, sender, now });
  }
  return ids.map((id) => {
    const key = answers.get(id)?.batch ?? id;
    const group = groups.get(key) ?? [];
    // The same id twice in one batch is one claim.
    groups.delete(key);
    return group;
  });
}

/** Rows that have a batch. They are ours by now, so this need not be the claiming transaction. */
async function loadBatches(pool: pg.Pool, claim: ClaimBatch, ours: readonly ClaimAnswer[]): Promise<JobRow[]> {
  const { table, tenantId } = claim;
  const ids = ours.flatMap(({ id, batch }) => (batch === null ? [] : [id]));
  if (table.loadBatch === null || ids.length === 0) return [];
  const statement = { name: `load batch ${table.table_name}`, text: table.loadBatch, values: [ids] };
  const [loaded] = await runAsTenant(pool, tenantId, [statement]);
  return rowsOf<JobRow>(loaded);
}

const readClock: Statement = { name: "clock", text: "select brainops.now() as now", values: [] };

/** The engine's clock, read from Postgres once and carried on by this process's own steady one. */
function clockFrom(result: pg.QueryResult | undefined): () => Date {
  const [read] = rowsOf<{ now: Date }>(result);
  if (read === undefined) throw new Error("brainops.now() gave no answer");
  const offset = read.now.getTime() - performance.now();
  return () => new Date(performance.now() + offset);
}

function settlementOf({ row, lease, sender }: Claimed, ended: Ended): Settlement {
  return { id: row.id, lease, sender, ...ended };
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
    ids.map((id) => ({ id, lease, sender: null, outcome, reachedSender: false })),
  );
}

async function unclaim(pool: pg.Pool, { table, tenantId, ids, lease }: ClaimBatch): Promise<void> {
  const statement = { text: "select brainops.unclaim($1, $2, $3)", values: [table.table_name, ids, lease] };
  await insist(() => runAsTenant(pool, tenantId, [statement]), UNCLAIM_FOR_MS);
}
