// The demo's time. brainops.now(), which the whole engine asks, runs ahead of Postgres's own clock
// by an offset; the stand-ins and the server that checks signed times are given the same one.
import type pg from "pg";

export interface DemoClock {
  /** Unix milliseconds. */
  now(): number;
  /** Puts the clock forward. Never back. */
  jump(to: Date): Promise<void>;
  /** Sets off the jobs whose time has come by this clock. */
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

// graphile-worker goes by Postgres's own clock: what is due by the demo's is made due by that, too.
const WAKE = `
  with due as (
    update graphile_worker._private_jobs
    set run_at = pg_catalog.now()
    where run_at > pg_catalog.now() and run_at <= brainops.now()
    returning id
  )
  select pg_catalog.pg_notify('jobs:insert', '{"r":"demo","count":100}') from (select count(*) as n from due) as d where d.n > 0
`;

/** Runs statements as whoever moves the clock: the owner of the schema. */
export type Query = <Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]) => Promise<Row[]>;
