// Transactions as a tenant: the role brainops_worker and the tenant's id, for this transaction
// alone. Nothing of either outlives it, so a pooler in transaction mode may sit in between.
import pg from "pg";
import { BrainOpsError, fromDatabase } from "../errors.ts";

/** One statement of a transaction: text with $1…, and their values. */
export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
}

/**
 * Runs statements as the tenant in one transaction, sent together where the pool's clients
 * pipeline, and returns their results in order. Throws the first statement's error; then nothing
 * of them has happened.
 */
export async function runAsTenant(
  pool: pg.Pool,
  tenantId: string,
  statements: readonly Statement[],
): Promise<pg.QueryResult[]> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    const sent = [
      client.query("begin"),
      client.query("set local role brainops_worker"),
      client.query("select set_config('app.tenant_id', $1, true)", [tenantId]),
      ...statements.map(({ text, values }) => client.query(text, [...values])),
    ];
    const outcomes = await Promise.allSettled(sent);
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    await client.query(failed === undefined ? "commit" : "rollback");
    if (failed !== undefined) throw fromDatabase(failed.reason);
    return outcomes.slice(3).map((outcome) => (outcome as PromiseFulfilledResult<pg.QueryResult>).value);
  } catch (error) {
    const answered = error instanceof pg.DatabaseError || error instanceof BrainOpsError;
    if (error instanceof Error && !answered) broken = error;
    throw error;
  } finally {
    // A client whose transaction may still be open must not serve anybody else.
    client.release(broken);
  }
}
