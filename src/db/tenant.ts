// Transactions as a tenant. The role brainops_worker and the tenant's id are set for the transaction
// only, so a pooler in transaction mode can be used.
import pg from "pg";
import { BrainOpsError, fromDatabase } from "../errors.ts";

/** One statement of a transaction: text with placeholders $1…, and their values. */
export interface Statement {
  readonly text: string;
  readonly values: readonly unknown[];
  /** Name of the prepared statement, for statements that run often; unset: not prepared. */
  readonly name?: string;
}

const enter = {
  name: "enter_tenant",
  text: "select set_config('role', 'brainops_worker', true), set_config('app.tenant_id', $1, true)",
};

/**
 * Runs statements as the tenant in one transaction and returns their results in order. They are sent
 * together if the pool's clients pipeline. Throws the error of the first statement that failed; the
 * transaction is then rolled back.
 */
export async function runAsTenant(
  pool: pg.Pool,
  tenantId: string,
  statements: readonly Statement[],
): Promise<pg.QueryResult[]> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    const outcomes = await Promise.allSettled([
      client.query("begin"),
      client.query({ ...enter, values: [tenantId] }),
      ...statements.map((statement) => client.query({ ...statement, values: [...statement.values] })),
      // Sent without waiting for the results: after an error, Postgres treats commit as rollback.
      client.query("commit"),
    ]);
    const failed = outcomes.find((outcome) => outcome.status === "rejected");
    if (failed !== undefined) throw fromDatabase(failed.reason);
    return outcomes.slice(2, -1).map((outcome) => (outcome as PromiseFulfilledResult<pg.QueryResult>).value);
  } catch (error) {
    const answered = error instanceof pg.DatabaseError || error instanceof BrainOpsError;
    if (error instanceof Error && !answered) broken = error;
    throw error;
  } finally {
    // A client whose transaction may still be open must not return to the pool.
    client.release(broken);
  }
}
