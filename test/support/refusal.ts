// The error of a statement, as the client sees it.
import pg from "pg";

export interface Refusal {
  readonly code: string | undefined;
  readonly column: string | undefined;
  readonly message: string;
  readonly hint: string | undefined;
}

/** The error of a statement that Postgres must reject. Throws if the statement succeeded. */
export async function refusal(statement: Promise<unknown>): Promise<Refusal> {
  try {
    await statement;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    return { code: error.code, column: error.column, message: error.message, hint: error.hint };
  }
  throw new Error("expected an error, but the statement succeeded");
}
