// Transactions as a tenant. The role brainops_worker and the tenant's id are set for the transaction
// only, so a pooler in transaction mode can be used.
import pg from "pg";
import { BrainOpsError, fromDatabase } from "../errors.ts";
import { isFunctionReplaced, throughDeployment } from "./deployment.ts";
import { sharesOf } from "./shares.ts";

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
 * Runs statements as the tenant in one transaction and returns their results in order. Throws the
 * error of the first statement that failed; the transaction is rolled back then. Runs it again while
 * a deployment replaces functions that it calls (deployment.ts). Waits while the tenant has its share of the pool's
 * connections (shares.ts).
 * @param begin called when the tenant's share has room; if it throws, the transaction is not started
 * @param pool with `pipeline: true`, so that all statements are sent at once; without it pg queues
 * them and warns that this is deprecated
 */
export function runAsTenant(
  pool: pg.Pool,
  tenantId: string,
  statements: readonly Statement[],
  begin: () => void = () => {},
): Promise<pg.QueryResult[]> {
  return throughDeployment(() =>
    sharesOf(pool).run(tenantId, async () => {
      begin();
      return runOnce(pool, tenantId, statements);
    }),
  );
}

async function runOnce(pool: pg.Pool, tenantId: string, statements: readonly Statement[]): Promise<pg.QueryResult[]> {
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
    // What a connection has prepared may call a function that was replaced.
    if (error instanceof Error && (!answered || isFunctionReplaced(error))) broken = error;
    throw error;
  } finally {
    // A client whose transaction may still be open must not return to the pool.
    client.release(broken);
  }
}

/** The rows of a statement's result; empty if `result` is undefined. The caller vouches for their type. */
export function rowsOf<Row>(result: pg.QueryResult | undefined): Row[] {
  return (result?.rows ?? []) as Row[];
}
