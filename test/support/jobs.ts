// Inserts, claims and settles job rows as a worker does, without a worker.
import { randomUUID } from "node:crypto";
import type pg from "pg";
import type { TestDatabase } from "./database.ts";

export interface MailColumns {
  readonly [column: string]: unknown;
}

/** Inserts a mail as the tenant and returns its id. */
export async function insertMail(
  db: TestDatabase,
  seat: "tenantA" | "tenantB",
  columns: MailColumns = {},
): Promise<string> {
  const row = { recipient: "ann@example.com", subject: "Hello", body: "<p>Hi</p>", ...columns };
  const names = Object.keys(row);
  const [inserted] = await db.as<{ id: string }>(
    seat,
    `insert into ai_email_queue (${names.join(", ")}) values (${names.map((_, index) => `$${index + 1}`).join(", ")}) returning id`,
    Object.values(row),
  );
  if (inserted === undefined) throw new Error("nothing was inserted");
  return inserted.id;
}

/** Runs in one transaction, as brainops_worker, for the tenant, as a worker does. */
export async function asWorker<T>(client: pg.Client, tenantId: string, run: () => Promise<T>): Promise<T> {
  await beginAsWorker(client, tenantId);
  try {
    const result = await run();
    await client.query("commit");
    return result;
  } catch (error) {
    await client.query("rollback");
    throw error;
  }
}

/** Begins such a transaction, for tests that hold it open. */
export async function beginAsWorker(client: pg.Client, tenantId: string): Promise<void> {
  await client.query("begin");
  await client.query("set local role brainops_worker");
  await client.query("select set_config('app.tenant_id', $1, true)", [tenantId]);
}

export interface Claim {
  readonly id: string;
  readonly outcome: string;
  readonly lease: string | null;
  readonly attempt: number;
  readonly reason: string | null;
}

export const CLAIM =
  "select id, outcome, lease, attempt, reason from brainops_internal.claim('ai_email_queue', $1, $2)";
const CLAIM_ALONE = CLAIM.replace("$2)", "$2, p_alone => true)");

export async function claim(
  client: pg.Client,
  tenantId: string,
  ids: readonly string[],
  workerId: string = randomUUID(),
  alone = false,
): Promise<Claim[]> {
  const text = alone ? CLAIM_ALONE : CLAIM;
  return asWorker(client, tenantId, async () => (await client.query<Claim>(text, [ids, workerId])).rows);
}

export interface Settlement {
  readonly id: string;
  readonly lease: string | null;
  readonly outcome: "completed" | "retry" | "defer" | "fail" | "skip" | "unconfirmed";
  readonly run_at?: Date;
  readonly reason?: string;
  readonly result?: Readonly<Record<string, unknown>>;
}

/** Settles rows. Returns the new status of each row whose lease was still valid. */
export async function settle(
  client: pg.Client,
  tenantId: string,
  settlements: readonly Settlement[],
): Promise<Record<string, string>> {
  return asWorker(client, tenantId, async () => {
    const { rows } = await client.query<{ id: string; status: string }>(
      `select id, status from brainops_internal.settle('ai_email_queue', array(
         select row(id, lease, outcome, run_at, reason, result)::brainops.settlement
         from jsonb_to_recordset($1) as s (id uuid, lease uuid, outcome text, run_at timestamptz, reason text, result jsonb)
       ))`,
      [JSON.stringify(settlements)],
    );
    return Object.fromEntries(rows.map((row) => [row.id, row.status]));
  });
}

/** Claims one row and returns its lease. Throws if the row was not claimed. */
export async function claimOne(client: pg.Client, tenantId: string, id: string, workerId?: string): Promise<string> {
  const [answer] = await claim(client, tenantId, [id], workerId);
  if (answer?.outcome !== "go" || answer.lease === null) {
    throw new Error(`the row was not claimed: ${JSON.stringify(answer ?? "not due, or locked elsewhere")}`);
  }
  return answer.lease;
}

export interface GraphileJob {
  readonly key: string;
  readonly task: string;
  readonly payload: Readonly<Record<string, unknown>>;
  readonly priority: number;
  readonly attempts: number;
  readonly run_at: Date;
}

/** The graphile-worker jobs of one e-mail row or of all, in the order in which they run. */
export async function jobsOf(db: TestDatabase, id?: string): Promise<GraphileJob[]> {
  return db.query<GraphileJob>(
    `select j.key, t.identifier as task, j.payload, j.priority, j.attempts, j.run_at
     from graphile_worker._private_jobs as j inner join graphile_worker._private_tasks as t on t.id = j.task_id
     where j.key like '%:ai_email_queue:' || coalesce($1, '%')
     order by j.priority, j.run_at, j.id`,
    [id ?? null],
  );
}

/** The row of ai_email_queue, read as superuser. */
export async function mail(db: TestDatabase, id: string): Promise<Record<string, unknown>> {
  const [row] = await db.query("select * from ai_email_queue where id = $1", [id]);
  if (row === undefined) throw new Error(`mail ${id} does not exist`);
  return row;
}
