// Batched settle: writes the results of many rows in one transaction, together with what they report about provider
// accounts.
import type pg from "pg";
import { FunctionGoneError } from "../db/deployment.ts";
import { insist } from "../db/insist.ts";
import { isTransient } from "../db/pool.ts";
import { rowsOf, runAsTenant, type Statement } from "../db/tenant.ts";
import { codeOf, messageOf } from "../errors.ts";
import { accountReports, pauses } from "./accountReports.ts";
import type { Watched } from "./holdUps.ts";
import { reasonOf, type Outcome } from "./outcome.ts";
import type { JobTable, Settlement } from "./types.ts";

const SETTLE_FOR_MS = 10 * 60_000;
// Below this size, completed rows go into the mixed settle statement; a separate one would cost another plan.
const MIN_ALIKE = 20;

/**
 * Writes the results; returns each row's new status, in their order, or null if its lease no longer held. Retries
 * for 10 minutes while Postgres is unreachable or others have locked a row, and reports that to `watched`. Throws
 * the last error after that: the effect has happened, so no other outcome is written. If a batch takes too long, each
 * half is settled alone. If Postgres refuses the batch, the rows are settled one at a time, so
 * that one bad result does not affect the others. The refused row gets the outcome of an effect with an unknown end
 * (retry or unconfirmed), with the refusal as its reason.
 */
export async function settleBatch(
  pool: pg.Pool,
  table: JobTable,
  tenantId: string,
  settlements: readonly Settlement[],
  watched: Watched,
): Promise<(string | null)[]> {
  const tooLong = (error: unknown): boolean => settlements.length > 1 && codeOf(error) === "57014";
  const write = (some: readonly Settlement[]): Promise<(string | null)[]> =>
    insist(() => writeBatch(pool, table, tenantId, some, watched.begin), SETTLE_FOR_MS, {
      onRetry: watched.failed,
      unless: tooLong,
    });
  try {
    return await write(settlements);
  } catch (error) {
    if (tooLong(error)) {
      const middle = Math.ceil(settlements.length / 2);
      const halves = [settlements.slice(0, middle), settlements.slice(middle)];
      const statuses: (string | null)[] = [];
      for (const half of halves) statuses.push(...(await settleBatch(pool, table, tenantId, half, watched)));
      return statuses;
    }
    if (isTransient(error) || error instanceof FunctionGoneError) throw error;
    const [only, ...others] = settlements;
    if (only === undefined) return [];
    if (others.length > 0) {
      const statuses: (string | null)[] = [];
      for (const settlement of settlements) {
        statuses.push(...(await settleBatch(pool, table, tenantId, [settlement], watched)));
      }
      return statuses;
    }
    const reason = `its outcome (${only.outcome.kind}) could not be written: ${messageOf(error)}`;
    const outcome: Outcome = table.effect_is_idempotent ? { kind: "retry", reason } : { kind: "unconfirmed", reason };
    return write([{ ...only, outcome, providerCalled: false }]);
  }
}

/** One transaction. */
async function writeBatch(
  pool: pg.Pool,
  table: JobTable,
  tenantId: string,
  settlements: readonly Settlement[],
  begin: () => void,
): Promise<(string | null)[]> {
  const groups = groupAlike(settlements);
  const isAlike = ({ ids, outcome }: Group): boolean =>
    outcome.kind === "completed" && (ids.length >= MIN_ALIKE || groups.length === 1);
  const writes = [
    ...groups.filter(isAlike).map((group) => settleCompleted(table, group)),
    ...settleMixed(
      table,
      groups.filter((group) => !isAlike(group)),
    ),
  ];
  // The breakers' rows are shared by all tenants: last, so that nothing waits for a tenant's lock while it holds them.
  const statements = [...writes, ...pauses(table, settlements), ...accountReports(tenantId, settlements)];
  const results = await runAsTenant(pool, tenantId, statements, begin);
  const statuses = new Map(
    results
      .slice(0, writes.length)
      .flatMap((result) => rowsOf<{ ids: string[]; status: string }>(result))
      .flatMap(({ ids, status }) => ids.map((id) => [id, status])),
  );
  return settlements.map(({ id }) => statuses.get(id) ?? null);
}

/** Rows with the same outcome under the same lease. */
interface Group {
  readonly ids: string[];
  readonly lease: string;
  readonly outcome: Outcome;
}

const plainlyCompleted: Outcome = { kind: "completed" };

/** Groups equal outcomes: the same object, as from a bulk call, or completed without a result. */
function groupAlike(settlements: readonly Settlement[]): Group[] {
  const groups = new Map<Outcome, Group[]>();
  for (const { id, lease, outcome: given } of settlements) {
    const outcome = given.kind === "completed" && given.result === undefined ? plainlyCompleted : given;
    const alike = groups.get(outcome) ?? [];
    groups.set(outcome, alike);
    const group = alike.find((one) => one.lease === lease);
    if (group === undefined) alike.push({ ids: [id], lease, outcome });
    else group.ids.push(id);
  }
  return [...groups.values()].flat();
}

/** Many completed rows with one result. */
function settleCompleted(table: JobTable, { ids, lease, outcome }: Group): Statement {
  const result = "result" in outcome ? outcome.result : undefined;
  return {
    name: "settle_completed",
    text: `select 'completed' as status, json_agg(id) as ids from brainops_internal.settle_completed($1, $2, $3, $4) as id
           having count(*) > 0`,
    values: [table.table_name, ids, lease, JSON.stringify(result ?? {})],
  };
}

function settleMixed(table: JobTable, groups: readonly Group[]): Statement[] {
  if (groups.length === 0) return [];
  const settlements = groups.map(({ ids, lease, outcome }) => ({ ids, lease, ...columnsOf(outcome) }));
  return [
    {
      name: "settle",
      text: `select status, json_agg(id) as ids from brainops_internal.settle($1, array(
               select row(i, lease, outcome, run_at, reason, result)::brainops.settlement
               from jsonb_to_recordset($2)
                 as s (ids uuid[], lease uuid, outcome text, run_at timestamptz, reason text, result jsonb)
               cross join lateral unnest(s.ids) as i
             )) group by status`,
      values: [table.table_name, JSON.stringify(settlements)],
    },
  ];
}

/** The outcome as columns of brainops.settlement. */
function columnsOf(outcome: Outcome): object {
  const reason = reasonOf(outcome);
  switch (outcome.kind) {
    case "completed":
      return { outcome: outcome.kind, result: outcome.result ?? {} };
    case "retry":
    case "defer":
      return { outcome: outcome.kind, run_at: outcome.at ?? null, reason };
    case "hold":
    case "fail":
    case "skip":
    case "unconfirmed":
      return { outcome: outcome.kind, reason };
    default:
      return outcome satisfies never;
  }
}
