// Batched claim and load: one transaction that claims, then the rows. A row whose claim has
// committed is in flight; one that cannot be loaded is settled here.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { insist } from "../db/insist.ts";
import { isTransient } from "../db/pool.ts";
import { rowsOf, runAsTenant, type Statement } from "../db/tenant.ts";
import type { Batch } from "./batcher.ts";
import type { JobRow } from "./define.ts";
import type { ClaimReports } from "./claimReports.ts";
import { HeldUpError, type HoldUps } from "./holdUps.ts";
import type { InFlight } from "./inFlight.ts";
import type { ClaimOutcome, Outcome } from "./outcome.ts";
import { settleBatch } from "./settlements.ts";
import type { Claimed, OnSuspects } from "./types.ts";

export interface Claimer {
  readonly pool: pg.Pool;
  readonly workerId: string;
  readonly inFlight: InFlight;
  readonly onSuspects: OnSuspects;
  readonly holdUps: HoldUps;
  readonly reports: Pick<ClaimReports, "succeeded" | "failed">;
}

interface Claim extends Batch<string> {
  /** One for the whole batch, and fresh for each attempt: it distinguishes this claim of a row from every other. */
  readonly lease: string;
}

/** Rows that got the same verdict. Includes other rows of the bulk that were claimed with them. */
interface Verdict {
  readonly ids: readonly string[];
  readonly outcome: ClaimOutcome;
  readonly account: string | null;
  readonly bulk: string | null;
}

/** What the claiming transaction returned. */
interface Answer {
  readonly verdicts: readonly Verdict[];
  /** Those with the outcome `go`. */
  readonly claimed: readonly Verdict[];
  /** Claimed rows without a bulk key, loaded in the claiming transaction. */
  readonly rows: readonly JobRow[];
  readonly now: () => Date;
}

const MAX_ATTEMPTS = 3;
const UNCLAIM_FOR_MS = 10 * 60_000;

/**
 * Claims and loads a batch of ids. Returns the claimed rows of each id, in the order of the ids: empty if the row does
 * not go. All rows of a bulk are returned for the first id that belongs to it. Calls `release` once the claim has
 * committed, so that the next batch claims while these rows load. Claimed rows count as in flight from then on.
 */
export async function claimBatch(
  claimer: Claimer,
  batch: Batch<string>,
  release: () => void,
): Promise<(readonly Claimed[])[]> {
  const { inFlight, onSuspects, holdUps, reports } = claimer;
  const { table, tenantId } = batch;
  for (let attempt = 1; ; attempt += 1) {
    const claim = { ...batch, lease: randomUUID() };
    let ids: readonly string[] = [];
    try {
      const alone = onSuspects === "claim";
      const answer = await holdUps.watch(table, tenantId, ({ begin }) => claimRows(claimer, claim, alone, begin));
      reports.succeeded(table, answer.verdicts.length > 0);
      ids = answer.claimed.flatMap((verdict) => verdict.ids);
      const suspects = answer.verdicts.flatMap((verdict) => (verdict.outcome === "alone" ? verdict.ids : []));
      if (suspects.length > 0 && onSuspects !== "claim") onSuspects(claim.table, claim.tenantId, suspects);
      inFlight.add(ids);
      release();
      const { rows, missing } = await holdUps.watch(table, tenantId, () => loadRows(claimer, claim, answer));
      await failMissing(claimer, claim, missing);
      inFlight.remove(missing);
      return groupById(claim, answer, rows);
    } catch (error) {
      // The commit may have happened although its answer was lost. No effect has started, so the claim is taken back by
      // its lease and tried again here. If this threw instead, graphile-worker would retry the job with growing delays.
      release();
      // A claiming transaction that was held up was rolled back, or was not started. Loading, too, may be held up.
      reports.failed(tenantId, error);
      const heldUp = error instanceof HeldUpError;
      const never = heldUp && ids.length === 0;
      const unclaimed = never ? Promise.resolve() : unclaim(claimer, claim).finally(() => inFlight.remove(ids));
      if (heldUp) {
        inFlight.setAside(ids);
        unclaimed.catch(() => {
          // The sweep ends the rows.
        });
        throw error;
      }
      await unclaimed;
      if (attempt === MAX_ATTEMPTS || !isTransient(error)) throw error;
    }
  }
}

async function claimRows(
  { pool, workerId }: Claimer,
  { table, tenantId, items: ids, lease }: Claim,
  alone: boolean,
  begin: () => void,
): Promise<Answer> {
  const { platform, tenant } = table.missingCredentials;
  const statements: Statement[] = [
    {
      name: "claim",
      text: `select brainops.now() as now, coalesce(json_agg(v), '[]') as verdicts
             from (
               select json_agg(id) as ids, outcome, account, bulk
               from brainops_internal.claim($1, $2, $3, $4, $5, $6, $7, $8)
               group by outcome, account, bulk
             ) as v`,
      values: [table.table_name, ids, workerId, lease, platform, tenant, table.loadBulk !== null && !alone, alone],
    },
    { name: `load ${table.table_name}`, text: table.load, values: [ids] },
  ];
  const [claimed, loaded] = await runAsTenant(pool, tenantId, statements, begin);
  const [answer] = rowsOf<{ now: Date; verdicts: readonly Verdict[] }>(claimed);
  if (answer === undefined) throw new Error("brainops_internal.claim returned no row");
  return {
    verdicts: answer.verdicts,
    claimed: answer.verdicts.filter(({ outcome }) => outcome === "go"),
    rows: rowsOf<JobRow>(loaded),
    now: clockFrom(answer.now),
  };
}

/** Loads the bulk rows. `missing` are claimed rows that the job's own queries leave out. */
async function loadRows(
  { pool }: Claimer,
  claim: Claim,
  { claimed, rows: loaded }: Answer,
): Promise<{ rows: ReadonlyMap<string, JobRow>; missing: readonly string[] }> {
  const bulkIds = claimed.flatMap(({ ids, bulk }) => (bulk === null ? [] : ids));
  const bulkRows = await loadBulk(pool, claim, bulkIds);
  const rows = new Map([...loaded, ...bulkRows].map((row) => [row.id, row]));
  return { rows, missing: claimed.flatMap(({ ids }) => ids.filter((id) => !rows.has(id))) };
}

/**
 * One JSON value per row, because node-postgres takes several times as long to parse columns. The rows are already
 * claimed, so this need not run in the claiming transaction.
 */
async function loadBulk(pool: pg.Pool, { table, tenantId }: Claim, ids: readonly string[]): Promise<JobRow[]> {
  if (table.loadBulk === null || ids.length === 0) return [];
  const [loaded] = await runAsTenant(pool, tenantId, [
    {
      name: `load bulk ${table.table_name}`,
      text: `select to_json(loaded) as row from (${table.loadBulk}) as loaded`,
      values: [ids],
    },
  ]);
  return rowsOf<{ row: JobRow }>(loaded).map(({ row }) => row);
}

function groupById(claim: Claim, answer: Answer, rows: ReadonlyMap<string, JobRow>): (readonly Claimed[])[] {
  const { lease } = claim;
  const { verdicts, now } = answer;
  const claimed = answer.claimed.flatMap(({ ids, account, bulk }) =>
    ids.flatMap((id) => {
      const row = rows.get(id);
      return row === undefined ? [] : [{ row, lease, bulk, account, now }];
    }),
  );
  const groups = Map.groupBy(claimed, ({ row, bulk }) => bulk ?? row.id);
  const bulkOf = new Map(verdicts.flatMap(({ ids, bulk }) => ids.map((id) => [id, bulk])));
  return claim.items.map((id) => {
    const key = bulkOf.get(id) ?? id;
    const group = groups.get(key) ?? [];
    // A bulk is returned for the first of its ids, and an id that is named twice is claimed once.
    groups.delete(key);
    return group;
  });
}

/** The engine's clock: read from Postgres once, then advanced by this process's monotonic clock. */
function clockFrom(read: Date): () => Date {
  const offset = read.getTime() - performance.now();
  return () => new Date(performance.now() + offset);
}

async function failMissing(
  { pool, holdUps }: Claimer,
  { table, tenantId, lease }: Claim,
  ids: readonly string[],
): Promise<void> {
  if (ids.length === 0) return;
  const outcome: Outcome = {
    kind: "fail",
    reason: `the query of task ${table.task_identifier} returns nothing for the row`,
  };
  const settlements = ids.map((id) => ({ id, lease, account: null, outcome, providerCalled: false }));
  await holdUps.write(table, tenantId, (watched) => settleBatch(pool, table, tenantId, settlements, watched));
}

/** Gives back every row that carries the lease. Changes nothing if the claim never committed. */
async function unclaim({ pool, holdUps }: Claimer, { table, tenantId, items: ids, lease }: Claim): Promise<void> {
  const statement = { text: "select brainops_internal.unclaim($1, $2, $3)", values: [table.table_name, ids, lease] };
  await holdUps.write(table, tenantId, ({ begin, failed }) =>
    insist(() => runAsTenant(pool, tenantId, [statement], begin), UNCLAIM_FOR_MS, { onRetry: failed }),
  );
}
