// Claims on the wire: what Postgres said to a batch of ids, and the rows that are ours now, loaded.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import { isPassing } from "../db/pool.ts";
import { runAsTenant } from "../db/tenant.ts";
import type { JobRow } from "./define.ts";
import type { InHand } from "./inHand.ts";
import type { Outcome } from "./outcome.ts";
import { insist, rowsOf, settleAll } from "./settlements.ts";
import type { Claimed, JobTable } from "./store.ts";

export interface ClaimRequest {
  readonly table: JobTable;
  readonly tenantId: string;
  readonly ids: readonly string[];
  readonly workerId: string;
}

interface Claim extends ClaimRequest {
  /** One for the whole batch: what it claimed can be told from every other claim. */
  readonly lease: string;
}

/** What was said alike of several rows. */
interface Answer {
  readonly ids: readonly string[];
  readonly outcome: string;
  readonly sender: string | null;
  readonly batch: string | null;
}

interface Answers {
  readonly all: readonly Answer[];
  /** Of the rows that go. */
  readonly ours: readonly Answer[];
  /** Rows without a batch, read in the claiming transaction. */
  readonly rows: readonly JobRow[];
  /** The engine's clock, as of the claim and on from there. */
  readonly now: () => Date;
}

export interface ClaimedBatch {
  /** Resolves, never rejects, once the claiming transaction is over: the next one may begin. */
  readonly answered: Promise<void>;
  /** What each id of the claim led to. The rows of a batch go to the first id that belongs to it. */
  readonly groups: Promise<(readonly Claimed[])[]>;
}

const TRIES = 3;
const UNCLAIM_FOR_MS = 10 * 60_000;

/** Claims and loads; what is ours is in hand from the answer on. */
export function claimBatch(pool: pg.Pool, request: ClaimRequest, inHand: InHand): ClaimedBatch {
  const { promise: answered, resolve } = Promise.withResolvers<void>();
  return { answered, groups: claimAndLoad(pool, request, inHand, resolve) };
}

async function claimAndLoad(
  pool: pg.Pool,
  request: ClaimRequest,
  inHand: InHand,
  onAnswer: () => void,
): Promise<(readonly Claimed[])[]> {
  for (let attempt = 1; ; attempt += 1) {
    const claim = { ...request, lease: randomUUID() };
    let ours: readonly string[] = [];
    try {
      const answers = await ask(pool, claim);
      ours = answers.ours.flatMap(({ ids }) => ids);
      inHand.add(ours);
      onAnswer();
      return await load(pool, claim, answers, inHand);
    } catch (error) {
      // The commit may have gone through unheard. No effect has begun, so give the rows back,
      // as soon as Postgres is there again, and claim them anew: a failure would make
      // graphile-worker wait, longer each time.
      inHand.remove(ours);
      onAnswer();
      await unclaim(pool, claim);
      if (attempt === TRIES || !isPassing(error)) throw error;
    }
  }
}

async function ask(pool: pg.Pool, { table, tenantId, ids, workerId, lease }: Claim): Promise<Answers> {
  const [claimed, loaded] = await runAsTenant(pool, tenantId, [
    {
      name: "claim",
      text: `select brainops.now() as now, coalesce(json_agg(a), '[]') as answers
             from (
               select json_agg(id) as ids, outcome, sender, batch from brainops.claim($1, $2, $3, $4, $5, $6, $7)
               group by outcome, sender, batch
             ) as a`,
      values: [table.table_name, ids, workerId, lease, table.lacks.platform, table.lacks.own, table.loadBatch !== null],
    },
    { name: `load ${table.table_name}`, text: table.load, values: [ids] },
  ]);
  const [answer] = rowsOf<{ now: Date; answers: readonly Answer[] }>(claimed);
  if (answer === undefined) throw new Error("brainops.claim gave no answer");
  return {
    all: answer.answers,
    ours: answer.answers.filter(({ outcome }) => outcome === "go"),
    rows: rowsOf<JobRow>(loaded),
    now: clockFrom(answer.now),
  };
}

async function load(pool: pg.Pool, claim: Claim, answers: Answers, inHand: InHand): Promise<(readonly Claimed[])[]> {
  const { all, ours, now } = answers;
  const rows = new Map([...answers.rows, ...(await loadBatches(pool, claim, answers))].map((row) => [row.id, row]));
  const unloaded = ours.flatMap(({ ids }) => ids.filter((id) => !rows.has(id)));
  await refuseUnloaded(pool, claim, unloaded);
  inHand.remove(unloaded);

  const claimed = ours.flatMap(({ ids, sender, batch }) =>
    ids.flatMap((id) => {
      const row = rows.get(id);
      return row === undefined ? [] : [{ row, lease: claim.lease, batch, sender, now }];
    }),
  );
  const groups = Map.groupBy(claimed, ({ row, batch }) => batch ?? row.id);
  const batchOf = new Map(all.flatMap(({ ids, batch }) => ids.map((id) => [id, batch])));
  return claim.ids.map((id) => {
    const key = batchOf.get(id) ?? id;
    const group = groups.get(key) ?? [];
    // The same id twice in one batch is one claim.
    groups.delete(key);
    return group;
  });
}

/**
 * Rows that have a batch, each as one piece of JSON: node-postgres takes several times as long for their columns. They
 * are ours by now, so this need not be the claiming transaction.
 */
async function loadBatches(pool: pg.Pool, { table, tenantId }: Claim, { ours }: Answers): Promise<JobRow[]> {
  const ids = ours.flatMap((answer) => (answer.batch === null ? [] : answer.ids));
  if (table.loadBatch === null || ids.length === 0) return [];
  const [loaded] = await runAsTenant(pool, tenantId, [
    {
      name: `load batch ${table.table_name}`,
      text: `select to_json(loaded) as row from (${table.loadBatch}) as loaded`,
      values: [ids],
    },
  ]);
  return rowsOf<{ row: JobRow }>(loaded).map(({ row }) => row);
}

/** The engine's clock, read from Postgres once and carried on by this process's own steady one. */
function clockFrom(read: Date): () => Date {
  const offset = read.getTime() - performance.now();
  return () => new Date(performance.now() + offset);
}

/** Rows that are claimed but that the job's own query leaves out: nothing can be done with them. */
async function refuseUnloaded(pool: pg.Pool, { table, tenantId, lease }: Claim, ids: readonly string[]): Promise<void> {
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

async function unclaim(pool: pg.Pool, { table, tenantId, ids, lease }: Claim): Promise<void> {
  const statement = { text: "select brainops.unclaim($1, $2, $3)", values: [table.table_name, ids, lease] };
  await insist(() => runAsTenant(pool, tenantId, [statement]), UNCLAIM_FOR_MS);
}
