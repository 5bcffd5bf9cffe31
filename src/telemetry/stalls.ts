// Stalls: rows of a job table are due, and none is claimed (brainops_internal.stalls has the definition).
import type pg from "pg";

export interface Stall {
  readonly table: string;
  /** Rows that are due; null if the table is locked and cannot be read. */
  readonly due: number | null;
  /** Null if it is not known. */
  readonly since: Date | null;
}

export async function readStalls(on: pg.Pool | pg.ClientBase): Promise<Stall[]> {
  const { rows } = await on.query<Stall>('select table_name as "table", due, since from brainops_internal.stalls()');
  return rows;
}

/** One sentence without names other than the table's. */
export function textOfStall({ table, due, since }: Stall): string {
  const from = since === null ? "" : ` since ${since.toISOString()}`;
  if (due === null) return `no row of ${table} was claimed${from}, and another transaction has locked the table`;
  return `${due} ${due === 1 ? "row" : "rows"} of ${table} due, and none was claimed${from}`;
}
