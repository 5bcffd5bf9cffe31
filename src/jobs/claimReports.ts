// What a worker reports about its claims: when it last claimed rows of each table, to Postgres
// (brainops_internal.stalls), and whether its claims fail, to its own health.
import type pg from "pg";
import { messageOf } from "../errors.ts";
import type { Log } from "../telemetry/log.ts";
import { HeldUpError } from "./holdUps.ts";
import type { JobTable } from "./types.ts";

const REPORT_MS = 2000;
// Claims that fail for so long have a cause that does not go away by itself.
const FAILING_MS = 30_000;

export interface ClaimReports {
  /** A claim succeeded. `reached`: whether it reached any row. */
  succeeded(table: JobTable, reached: boolean): void;
  failed(tenantId: string, error: unknown): void;
  /** Why this worker's claims have been failing for half a minute, as one sentence; null if they have not. */
  readonly problem: string | null;
  stop(): void;
}

/** @param now a monotonic clock, in milliseconds */
export function createClaimReports(
  pool: pg.Pool,
  log: Pick<Log, "warn">,
  now: () => number = () => performance.now(),
): ClaimReports {
  const claimed = new Map<string, number>();
  let failing: { readonly since: number; last: number; readonly heldUp: Set<string>; others: boolean } | null = null;
  let reporting = false;

  const report = async (): Promise<void> => {
    if (reporting || claimed.size === 0) return;
    reporting = true;
    const sent = new Map(claimed);
    const secondsAgo = Object.fromEntries([...sent].map(([table, at]) => [table, (now() - at) / 1000]));
    try {
      await pool.query("select brainops_internal.record_claims($1)", [JSON.stringify(secondsAgo)]);
      for (const [table, at] of sent) if (claimed.get(table) === at) claimed.delete(table);
    } catch (error) {
      log.warn({ reason: messageOf(error) }, "could not report claims yet");
    } finally {
      reporting = false;
    }
  };
  const timer = setInterval(() => void report(), REPORT_MS).unref();

  return {
    succeeded: ({ table_name: table }, reached) => {
      failing = null;
      if (reached) claimed.set(table, now());
    },
    failed: (tenantId, error) => {
      const at = now();
      failing ??= { since: at, last: at, heldUp: new Set(), others: false };
      failing.last = at;
      if (error instanceof HeldUpError) failing.heldUp.add(tenantId);
      else failing.others = true;
    },
    get problem() {
      if (failing === null) return null;
      const { since, last, heldUp, others } = failing;
      const at = now();
      if (at - since < FAILING_MS || at - last > FAILING_MS) return null;
      // One tenant's locks concern that tenant alone.
      if (!others && heldUp.size < 2) return null;
      const cause = others ? "" : `, because rows of ${heldUp.size} tenants are locked`;
      return `no claim has succeeded for ${Math.round((at - since) / 1000)} s${cause}`;
    },
    stop: () => clearInterval(timer),
  };
}
