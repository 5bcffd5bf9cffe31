// Ends of graphile-worker's jobs that would wait for a lock. A client's open transaction may have locked a job: an
// update of its row queues the job again, or cancels it. graphile-worker ends jobs of all tenants in one statement, and
// ends its whole run if that statement fails. So a statement that ran into lock_timeout counts as done for
// graphile-worker, and is repeated here for those jobs that are not locked, every second until none is left.
import type pg from "pg";
import { codeOf, messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";

const AGAIN_MS = 1000;
// After that the jobs stay locked until the worker ends. The sweep gives their rows other jobs.
const FOR_MS = 10 * 60_000;

const unlocked = "(select id from graphile_worker._private_jobs where id = any ($1::bigint[]) for update skip locked)";
const complete = `delete from graphile_worker._private_jobs where id in ${unlocked} returning id`;
// As in graphile-worker's own statement.
const fail = `
  update graphile_worker._private_jobs as jobs
  set
    last_error = el ->> 'message',
    run_at = greatest(now(), run_at) + exp(least(attempts, 10)) * interval '1 second',
    locked_by = null,
    locked_at = null,
    payload = coalesce(el -> 'payload', jobs.payload)
  from json_array_elements($3::json) as els (el)
  where id in ${unlocked} and id = (el ->> 'jobId')::bigint and locked_by = $2
  returning id`;

/** A statement of graphile-worker's, as it gives it to node-postgres. */
interface Query {
  readonly name?: string;
  readonly values?: readonly unknown[];
}

/** What is left of a statement. */
interface Ending {
  ids: readonly string[];
  readonly text: string;
  /** Values after the ids. */
  readonly values: readonly unknown[];
}

export interface Completions {
  /** Sends a statement of graphile-worker's. Resolves with an empty result if it ended jobs and ran into a lock. */
  send(query: unknown, send: () => Promise<pg.QueryResult>): Promise<pg.QueryResult>;
  stop(): void;
}

export function createCompletions(pool: pg.Pool, log: Pick<Log, "warn" | "error">): Completions {
  const timers = new Set<NodeJS.Timeout>();
  const repeat = (ending: Ending, until: number): void => {
    const timer = setTimeout(() => {
      timers.delete(timer);
      void end(ending, until);
    }, AGAIN_MS);
    timers.add(timer.unref());
  };
  const end = async (ending: Ending, until: number): Promise<void> => {
    try {
      const { rows } = await pool.query<{ id: string }>(ending.text, [ending.ids, ...ending.values]);
      const done = new Set(rows.map(({ id }) => String(id)));
      ending.ids = ending.ids.filter((id) => !done.has(id));
    } catch (error) {
      log.warn({ reason: messageOf(error) }, "could not end graphile-worker's jobs yet");
    }
    if (ending.ids.length === 0) return;
    if (performance.now() < until) repeat(ending, until);
    else log.error({ jobs: ending.ids }, "graphile-worker's jobs are locked by others, and could not be ended");
  };
  return {
    send: async (query, send) => {
      try {
        return await send();
      } catch (error) {
        const ending = codeOf(error) === "55P03" ? endingOf(query as Query) : null;
        if (ending === null) throw error;
        repeat(ending, performance.now() + FOR_MS);
        return { rows: [], rowCount: 0, command: "", oid: 0, fields: [] };
      }
    },
    stop: () => {
      for (const timer of timers) clearTimeout(timer);
    },
  };
}

/** Null for any other statement. Jobs in a named queue are not covered: our tasks use none. */
function endingOf({ name = "", values = [] }: Query): Ending | null {
  switch (name.split("/")[0]) {
    case "complete_job":
    case "complete_jobs":
      return { ids: [values[0]].flat().map(String), text: complete, values: [] };
    case "fail_job": {
      const failures = JSON.parse(String(values[1])) as { readonly jobId: string | number }[];
      return { ids: failures.map(({ jobId }) => String(jobId)), text: fail, values };
    }
    default:
      return null;
  }
}
