// Follows the database: on each notification of brainops_jobs it prints what changed and checks the
// conditions that callers wait for.
import { limits } from "../../db/limits.ts";
import { openClient } from "../../db/pool.ts";
import type { Screen } from "./screen.ts";

export interface Watch {
  /**
   * Resolves when every column of the query's first row is true. Rejects after withinMs (default 20 s) with
   * `what` and the row as it was found.
   */
  until(what: string, text: string, values: readonly unknown[], withinMs?: number): Promise<void>;
  /** Stops printing changes. */
  hush(): void;
  close(): Promise<void>;
}

interface Waiter {
  readonly what: string;
  readonly text: string;
  readonly values: readonly unknown[];
  readonly deadline: number;
  readonly done: PromiseWithResolvers<void>;
}

interface Change {
  readonly slug: string;
  readonly status: string;
  readonly count: number;
  readonly detail: string | null;
  readonly last: number;
}

// Without claims, which are too frequent to read.
const CHANGES = `
  select t.slug, e.to_status as status, count(*)::int as count, max(e.detail) as detail, max(e.id)::int as last
  from brainops.job_events as e
  inner join public.tenants as t on t.id = e.tenant_id
  where e.id > $1 and e.to_status <> 'processing'
  group by t.slug, e.to_status, case when e.to_status not in ('completed', 'pending') then e.detail end
  order by max(e.id)
`;

const tones = { completed: "good", skipped: "warn", cancelled: "warn", unconfirmed: "warn", failed: "bad" } as const;

/** Conditions are also checked at this interval, because time passes without a notification. */
const POLL_MS = 1000;

export async function startWatch(connectionString: string, screen: Screen): Promise<Watch> {
  const client = await openClient({ connectionString, applicationName: "brainops demo", limits: limits.command });
  const waiters = new Set<Waiter>();
  let lastPrinted = 0;
  const state = { dirty: false, closed: false, hushed: false };
  let checking: Promise<void> | null = null;

  const printChanges = async (): Promise<void> => {
    if (state.hushed) return;
    const { rows } = await client.query<Change>(CHANGES, [lastPrinted]);
    for (const { slug, status, count, detail, last } of rows) {
      lastPrinted = Math.max(lastPrinted, last);
      const reason = status === "completed" || detail === null ? "" : `: ${detail}`;
      screen.say(`${slug}: ${count} ${count === 1 ? "mail" : "mails"} ${status}${reason}`, toneOf(status));
    }
  };
  /** The function that ends the waiting; null if the condition is not true yet. */
  const check = async ({ what, text, values, deadline, done }: Waiter): Promise<(() => void) | null> => {
    const { rows } = await client.query<Record<string, unknown>>(text, [...values]);
    const row = rows[0];
    if (row !== undefined && Object.values(row).every((value) => value === true)) return done.resolve;
    if (performance.now() <= deadline) return null;
    return () => done.reject(new Error(`Timed out waiting: ${what}. Found ${JSON.stringify(row ?? null)}`));
  };
  const checkAll = async (): Promise<void> => {
    while (state.dirty && !state.closed) {
      state.dirty = false;
      const ended: (() => void)[] = [];
      for (const waiter of waiters) {
        const end = await check(waiter);
        if (end === null) continue;
        waiters.delete(waiter);
        ended.push(end);
      }
      // Prints the changes before the waiting callers continue.
      await printChanges();
      for (const end of ended) end();
    }
  };
  const wake = (): void => {
    state.dirty = true;
    checking ??= checkAll()
      .catch((error: unknown) => {
        for (const waiter of waiters) waiter.done.reject(error);
        waiters.clear();
      })
      .finally(() => {
        checking = null;
        if (state.dirty && !state.closed) wake();
      });
  };

  client.on("notification", wake);
  await client.query("listen brainops_jobs");
  const timer = setInterval(wake, POLL_MS);

  return {
    until: (what, text, values, withinMs = 20_000) => {
      const done = Promise.withResolvers<void>();
      waiters.add({ what, text, values, deadline: performance.now() + withinMs, done });
      wake();
      return done.promise;
    },
    hush: () => {
      state.hushed = true;
    },
    close: async () => {
      state.closed = true;
      clearInterval(timer);
      await checking;
      await client.end().catch(() => {});
    },
  };
}

function toneOf(status: string): "good" | "warn" | "bad" | "faint" {
  return status in tones ? tones[status as keyof typeof tones] : "faint";
}
