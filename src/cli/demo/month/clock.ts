// The demo's clock: Postgres' clock plus an offset. brainops.now(), which the whole engine uses, is
// redefined with the offset; the simulators and the HTTP server use the same clock.
import type pg from "pg";

export interface DemoClock {
  /** Unix milliseconds. */
  now(): number;
  /** Moves the clock forward to `to`. Does nothing if `to` is in the past. */
  jump(to: Date): Promise<void>;
  /** Makes graphile-worker run the jobs that are due by this clock. */
  wake(): Promise<void>;
}

export function createDemoClock(query: (text: string) => Promise<unknown>): DemoClock {
  let aheadMs = 0;
  const now = (): number => Date.now() + aheadMs;
  return {
    now,
    jump: async (to) => {
      if (to.getTime() <= now()) return;
      aheadMs = to.getTime() - Date.now();
      await query(`
        create or replace function brainops.now() returns timestamptz language sql stable parallel safe as $$
          select pg_catalog.now() + interval '${aheadMs} milliseconds';
        $$`);
    },
    wake: async () => {
      await query(WAKE);
    },
  };
}

// graphile-worker uses Postgres' clock, so jobs that are due by the demo's clock are made due by Postgres'.
const WAKE = `
  with due as (
    update graphile_worker._private_jobs
    set run_at = pg_catalog.now()
    where run_at > pg_catalog.now() and run_at <= brainops.now()
    returning id
  )
  select pg_catalog.pg_notify('jobs:insert', '{"r":"demo","count":100}') from (select count(*) as n from due) as d where d.n > 0
`;

/** Runs one statement and returns its rows. */
export type Query = <Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => Promise<Row[]>;
