// Claim and settle as the worker calls them: one row at a time by the handlers, in batches on the
// wire. The rules are brainops.claim and brainops.settle in sql/0005.
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { isConnectionLost, isSerializationFailure } from "../db/pool.ts";
import { runAsTenant, type Statement } from "../db/tenant.ts";
import { createBatcher } from "./batcher.ts";
import type { JobRow } from "./define.ts";
import { healthOf, type Outcome } from "./outcome.ts";

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

export interface Store {
  /** The row, ours under a lease; null where it may not go now, or is somebody else's. */
  claim(table: JobTable, load: string, tenantId: string, id: string): Promise<Claimed | null>;
  /** Writes the outcome where the lease still holds; the status it led to, or null where it did not. */
  settle(table: JobTable, tenantId: string, claimed: Claimed, outcome: Outcome): Promise<string | null>;
  /** Rows whose effect is under way here. */
  readonly inFlight: ReadonlySet<string>;
}

interface ClaimAnswer {
  readonly id: string;
  readonly outcome: string;
  readonly lease: string | null;
}

interface Settlement {
  readonly id: string;
  readonly lease: string;
  readonly outcome: Outcome;
}

// One settle carries this many rows at most: bounds the transaction and the locks it holds.
const BATCH_SIZE = 250;
const SETTLE_FOR_MS = 10 * 60_000;

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
      try {
        return await claimBatch(pool, table, load, tenantOf(key), ids, workerId);
      } catch (error) {
        // The commit may have gone through unheard: no effect has begun, so give the rows back.
        const lost = ids.filter((id) => !inFlight.has(id));
        if (isConnectionLost(error)) await unclaim(pool, table, tenantOf(key), lost, workerId);
        throw error;
      }
    },
  });

  const settles = createBatcher<Settlement, string | null>({
    size: BATCH_SIZE,
    parallel: 3,
    run: (key, settlements) =>
      insist(() => settleBatch(pool, tableOf(key).table, tenantOf(key), settlements), SETTLE_FOR_MS),
  });

  return {
    inFlight,
    claim: async (table, load, tenantId, id) => {
      tables.set(table.table_name, { table, load });
      const claimed = await claims(keyOf(table, tenantId), id);
      if (claimed !== null) inFlight.add(id);
      return claimed;
    },
    settle: async (table, tenantId, claimed, outcome) => {
      try {
        return await settles(keyOf(table, tenantId), { id: claimed.row.id, lease: claimed.lease, outcome });
      } finally {
        inFlight.delete(claimed.row.id);
      }
    },
  };
}

async function claimBatch(
  pool: pg.Pool,
  table: JobTable,
  load: string,
  tenantId: string,
  ids: readonly string[],
  workerId: string,
): Promise<(Claimed | null)[]> {
  const [claimed, loaded] = await runAsTenant(pool, tenantId, [
    {
      name: "claim",
      text: "select id, outcome, lease from brainops.claim($1, $2, $3)",
      values: [table.table_name, ids, workerId],
    },
    { name: `load ${table.table_name}`, text: load, values: [ids] },
  ]);
  const rows = new Map(rowsOf<JobRow>(loaded).map((row) => [row.id, row]));
  const answers = new Map(rowsOf<ClaimAnswer>(claimed).map((answer) => [answer.id, answer]));
  return ids.map((id) => {
    const answer = answers.get(id);
    const row = rows.get(id);
    if (answer?.outcome !== "go" || answer.lease === null || row === undefined) return null;
    // The same id twice in one batch is one claim.
    answers.delete(id);
    return { row, lease: answer.lease };
  });
}

async function unclaim(
  pool: pg.Pool,
  table: JobTable,
  tenantId: string,
  ids: readonly string[],
  workerId: string,
): Promise<void> {
  if (ids.length === 0) return;
  const statement = { text: "select brainops.unclaim($1, $2, $3)", values: [table.table_name, ids, workerId] };
  await insist(() => runAsTenant(pool, tenantId, [statement]), SETTLE_FOR_MS);
}

async function settleBatch(
  pool: pg.Pool,
  table: JobTable,
  tenantId: string,
  settlements: readonly Settlement[],
): Promise<(string | null)[]> {
  const [settled] = await runAsTenant(pool, tenantId, [
    {
      name: "settle",
      text: `select id, status from brainops.settle($1, array(
               select row(id, lease, outcome, run_at, reason, result)::brainops.settlement
               from jsonb_to_recordset($2) as s (id uuid, lease uuid, outcome text, run_at timestamptz, reason text, result jsonb)
             ))`,
      values: [table.table_name, JSON.stringify(settlements.map(settlementRow))],
    },
    ...senderReports(table, settlements),
    ...pauses(table, settlements),
  ]);
  const statuses = new Map(rowsOf<{ id: string; status: string }>(settled).map((row) => [row.id, row.status]));
  return settlements.map(({ id }) => statuses.get(id) ?? null);
}

function rowsOf<Row>(result: pg.QueryResult | undefined): Row[] {
  return (result?.rows ?? []) as Row[];
}

function settlementRow({ id, lease, outcome }: Settlement): object {
  const reason = "reason" in outcome ? wellFormed(outcome.reason) : null;
  switch (outcome.kind) {
    case "completed":
      return { id, lease, outcome: "completed", result: outcome.result ?? {} };
    case "retry":
      return { id, lease, outcome: "retry", run_at: outcome.at ?? null, reason };
    case "defer":
      return { id, lease, outcome: "defer", run_at: outcome.at, reason };
    case "pause":
      // Back to pending at once: the pause written beside it is what holds the row.
      return { id, lease, outcome: "defer", run_at: new Date(), reason };
    case "fail":
    case "skip":
    case "unconfirmed":
      return { id, lease, outcome: outcome.kind, reason };
    default:
      return outcome satisfies never;
  }
}

/** A provider's error text may hold what Postgres refuses in text: NUL, halves of a surrogate pair. */
function wellFormed(text: string): string {
  return text.toWellFormed().replaceAll("\u0000", "\uFFFD").slice(0, 2000);
}

/** What the batch says of the sender's health: only what there is to say, most batches nothing but "up". */
function senderReports(table: JobTable, settlements: readonly Settlement[]): Statement[] {
  if (table.sender === null) return [];
  const until = settlements.flatMap(({ outcome }) =>
    outcome.kind === "defer" && outcome.holdsSender === true ? [outcome.at.getTime()] : [],
  );
  const hold =
    until.length === 0
      ? []
      : [{ text: "select brainops.hold_sender($1, $2)", values: [table.sender, new Date(Math.max(...until))] }];
  const down = settlements.filter(({ outcome }) => healthOf(outcome) === "down");
  const up = settlements.filter(({ outcome }) => healthOf(outcome) === "up").length;
  if (up + down.length === 0) return hold;
  const last = down.at(-1)?.outcome;
  const error = last !== undefined && "reason" in last ? wellFormed(last.reason) : null;
  return [
    {
      name: "tell_breaker",
      text: "select brainops.tell_breaker($1, $2, $3, $4)",
      values: [table.sender, up, down.length, error],
    },
    ...hold,
  ];
}

function pauses(table: JobTable, settlements: readonly Settlement[]): Statement[] {
  return settlements
    .flatMap(({ outcome }) => (outcome.kind === "pause" ? [outcome] : []))
    .slice(0, 1)
    .map(({ reason, scope }) => ({
      text: "select brainops.pause_sender($1, $2, $3)",
      values: [table.table_name, scope === "everyone", wellFormed(reason)],
    }));
}

/** Runs again while Postgres is out of reach or transactions collide, for at most that long. */
async function insist<T>(run: () => Promise<T>, forMs: number): Promise<T> {
  const deadline = performance.now() + forMs;
  for (let delayMs = 50; ; delayMs = Math.min(delayMs * 2, 2000)) {
    try {
      return await run();
    } catch (error) {
      const passing = isConnectionLost(error) || isSerializationFailure(error);
      if (!passing || performance.now() > deadline) throw error;
      await sleep(delayMs);
    }
  }
}
