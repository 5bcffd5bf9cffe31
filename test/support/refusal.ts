// The refusal of a statement, as far as a client sees it.
import pg from "pg";

export interface Refusal {
  readonly code: string | undefined;
  readonly column: string | undefined;
  readonly message: string;
  readonly hint: string | undefined;
}

/** What Postgres refused with. Throws where it did not refuse. */
export async function refusal(statement: Promise<unknown>): Promise<Refusal> {
  try {
    await statement;
  } catch (error) {
    if (!(error instanceof pg.DatabaseError)) throw error;
    return { code: error.code, column: error.column, message: error.message, hint: error.hint };
  }
  throw new Error("expected a refusal, but the statement went through");
}
