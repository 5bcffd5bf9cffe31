// Outcomes on the wire: what a batch of them writes to the rows, and insisting on it.
import { setTimeout as sleep } from "node:timers/promises";
import type pg from "pg";
import { isConnectionLost, isPassing } from "../db/pool.ts";
import { runAsTenant, type Statement } from "../db/tenant.ts";
import { messageOf } from "../errors.ts";
import type { Outcome } from "./outcome.ts";
import { pauses, senderReports, wellFormed } from "./senderReports.ts";
import type { JobTable } from "./store.ts";

export interface Settlement {
  readonly id: string;
  readonly lease: string;
  readonly outcome: Outcome;
  /** Whose breaker it counts for; null for none. */
  readonly sender: string | null;
  /** Whether the effect began: a row that failed before it says nothing of the sender. */
  readonly reachedSender: boolean;
}

const SETTLE_FOR_MS = 10 * 60_000;
// Fewer rows than that share one statement with whatever else ended: each statement is planned anew.
const MANY = 20;

/**
 * Settles a batch, insisting while Postgres is out of reach. A settlement that Postgres refuses
 * must not cost the others theirs: they are then settled one by one, and the one at fault without
 * its result, as what an unknown outcome of its table is.
 */
export async function settleAll(
  pool: pg.Pool,
  table: JobTable,
  tenantId: string,
  settlements: readonly Settlement[],
): Promise<(string | null)[]> {
  try {
    return await insist(() => settleBatch(pool, table, tenantId, settlements), SETTLE_FOR_MS);
  } catch (error) {
    if (isConnectionLost(error)) throw error;
    const [only, ...others] = settlements;
    if (only === undefined) return [];
    if (others.length > 0) {
      const statuses: (string | null)[] = [];
      for (const settlement of settlements) statuses.push(...(await settleAll(pool, table, tenantId, [settlement])));
      return statuses;
    }
    const reason = `its outcome (${only.outcome.kind}) could not be written: ${messageOf(error)}`;
    const outcome: Outcome = table.effect_is_idempotent ? { kind: "retry", reason } : { kind: "unconfirmed", reason };
    return insist(
      () => settleBatch(pool, table, tenantId, [{ ...only, outcome, reachedSender: false }]),
      SETTLE_FOR_MS,
    );
  }
}

async function settleBatch(
  pool: pg.Pool,
  table: JobTable,
  tenantId: string,
  settlements: readonly Settlement[],
): Promise<(string | null)[]> {
  const groups = settlementGroups(settlements);
  const isAlike = ({ ids, outcome }: Group): boolean =>
    outcome.kind === "completed" && (ids.length >= MANY || groups.length === 1);
  const outcomes = [
    ...groups.filter(isAlike).map((group) => completion(table, group)),
    ...various(
      table,
      groups.filter((group) => !isAlike(group)),
    ),
  ];
  const results = await runAsTenant(pool, tenantId, [
    ...outcomes,
    ...senderReports(settlements),
    ...pauses(table, settlements),
  ]);
  const statuses = new Map(
    results
      .slice(0, outcomes.length)
      .flatMap((result) => rowsOf<{ ids: string[]; status: string }>(result))
      .flatMap(({ ids, status }) => ids.map((id) => [id, status])),
  );
  return settlements.map(({ id }) => statuses.get(id) ?? null);
}

export function rowsOf<Row>(result: pg.QueryResult | undefined): Row[] {
  return (result?.rows ?? []) as Row[];
}

/** Rows that ended as one, under one lease. */
interface Group {
  readonly ids: string[];
  readonly lease: string;
  readonly outcome: Outcome;
}

const plainlyCompleted: Outcome = { kind: "completed" };

function settlementGroups(settlements: readonly Settlement[]): Group[] {
  const groups = new Map<Outcome, Group[]>();
  for (const { id, lease, outcome: ended } of settlements) {
    const outcome = ended.kind === "completed" && ended.result === undefined ? plainlyCompleted : ended;
    const alike = groups.get(outcome) ?? [];
    groups.set(outcome, alike);
    const group = alike.find((one) => one.lease === lease);
    if (group === undefined) alike.push({ ids: [id], lease, outcome });
    else group.ids.push(id);
  }
  return [...groups.values()].flat();
}

/** A batch that went: one result for all of it. */
function completion(table: JobTable, { ids, lease, outcome }: Group): Statement {
  const result = "result" in outcome ? outcome.result : undefined;
  return {
    name: "settle_completed",
    text: `select 'completed' as status, json_agg(id) as ids from brainops.settle_completed($1, $2, $3, $4) as id
           having count(*) > 0`,
    values: [table.table_name, ids, lease, JSON.stringify(result ?? {})],
  };
}

function various(table: JobTable, groups: readonly Group[]): Statement[] {
  if (groups.length === 0) return [];
  const settlements = groups.map(({ ids, lease, outcome }) => ({ ids, lease, ...settlementOf(outcome) }));
  return [
    {
      name: "settle",
      text: `select status, json_agg(id) as ids from brainops.settle($1, array(
               select row(i, lease, outcome, run_at, reason, result)::brainops.settlement
               from jsonb_to_recordset($2)
                 as s (ids uuid[], lease uuid, outcome text, run_at timestamptz, reason text, result jsonb)
               cross join lateral unnest(s.ids) as i
             )) group by status`,
      values: [table.table_name, JSON.stringify(settlements)],
    },
  ];
}

function settlementOf(outcome: Outcome): object {
  const reason = "reason" in outcome ? wellFormed(outcome.reason) : null;
  switch (outcome.kind) {
    case "completed":
      return { outcome: "completed", result: outcome.result ?? {} };
    case "retry":
      return { outcome: "retry", run_at: outcome.at ?? null, reason };
    case "defer":
      return { outcome: "defer", run_at: outcome.at, reason };
    case "pause":
      // Back to pending, due as it was: the pause written beside it is what holds the row.
      return { outcome: "hold", reason };
    case "fail":
    case "skip":
    case "unconfirmed":
      return { outcome: outcome.kind, reason };
    default:
      return outcome satisfies never;
  }
}

/** Runs again while Postgres is out of reach or transactions collide, for at most that long. */
export async function insist<T>(run: () => Promise<T>, forMs: number): Promise<T> {
  const deadline = performance.now() + forMs;
  for (let delayMs = 50; ; delayMs = Math.min(delayMs * 2, 2000)) {
    try {
      return await run();
    } catch (error) {
      if (!isPassing(error) || performance.now() > deadline) throw error;
      await sleep(delayMs);
    }
  }
}
