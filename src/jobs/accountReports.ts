// What a batch of results reports about provider accounts: successes and failures for the circuit breaker, the wait
// that a provider asked for, and pauses of the table.
import type { Statement } from "../db/tenant.ts";
import { healthOf, reasonOf } from "./outcome.ts";
import type { JobTable, Settlement } from "./types.ts";

// Of successes, Postgres stores the time only, and only if the stored one is old; a fraction of the shortest
// circuit_breakers.failure_window.
const NOTE_EVERY_MS = 5000;
const MAX_NOTED = 10_000;
/** Account and tenant -> when this process last reported a success to be noted. */
const noted = new Map<string, number>();

/** Whether it is time to note a success of the tenant again. */
function shouldNote(account: string, tenantId: string): boolean {
  const key = `${account} ${tenantId}`;
  const now = performance.now();
  if (now - (noted.get(key) ?? Number.NEGATIVE_INFINITY) < NOTE_EVERY_MS) return false;
  // Forgetting costs one look at a row per tenant.
  if (noted.size >= MAX_NOTED) noted.clear();
  noted.set(key, now);
  return true;
}

/**
 * Statements that report the tenant's batch to the circuit breakers. In most batches one, which reports successes only.
 * They must come last in their transaction: they lock what all tenants share.
 */
export function accountReports(tenantId: string, all: readonly Settlement[]): Statement[] {
  // Nearly always one account: a tenant's rows go through its own or through the platform's. In one order for all.
  const accounts = new Set(all.flatMap(({ account }) => (account === null ? [] : [account])));
  return [...accounts].toSorted().flatMap((account) =>
    reportsOf(
      account,
      tenantId,
      all.filter((settlement) => settlement.account === account),
    ),
  );
}

function reportsOf(account: string, tenantId: string, settlements: readonly Settlement[]): Statement[] {
  const times = settlements.flatMap(({ outcome }) =>
    outcome.kind === "defer" && outcome.holdsAccount === true ? [outcome.at.getTime()] : [],
  );
  const wait =
    times.length === 0
      ? []
      : [{ text: "select brainops_internal.hold_account($1, $2)", values: [account, new Date(Math.max(...times))] }];
  const counted = settlements.filter(({ providerCalled }) => providerCalled).map(({ outcome }) => outcome);
  const failed = counted.filter((outcome) => healthOf(outcome) === "down");
  const succeeded = counted.filter((outcome) => healthOf(outcome) === "up").length;
  if (succeeded + failed.length === 0 && wait.length > 0) return wait;
  const last = failed.at(-1);
  return [
    {
      // Called even with 0 and 0: if the row was the breaker's probe, another row may probe then.
      name: "tell_breaker",
      text: "select brainops_internal.record_breaker_result($1, $2, $3, $4, $5)",
      values: [
        account,
        succeeded,
        failed.length,
        last === undefined ? null : reasonOf(last),
        succeeded > failed.length && shouldNote(account, tenantId),
      ],
    },
    ...wait,
  ];
}

/** The statement that pauses the table, if a row was held; the first of several reasons counts. */
export function pauses(table: JobTable, settlements: readonly Settlement[]): Statement[] {
  return settlements
    .flatMap(({ outcome, account }) => (outcome.kind === "hold" ? [{ outcome, account }] : []))
    .slice(0, 1)
    .map(({ outcome, account }) => ({
      text: "select brainops_internal.pause_account($1, $2, $3, $4)",
      values: [
        table.table_name,
        outcome.scope !== "tenant",
        reasonOf(outcome),
        outcome.scope === "tenant_first" ? account : null,
      ],
    }));
}
