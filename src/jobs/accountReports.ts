// What a batch of results reports about provider accounts: successes and failures for the circuit breaker, the wait
// that a provider asked for, and pauses of the table.
import type { Statement } from "../db/tenant.ts";
import { healthOf, reasonOf } from "./outcome.ts";
import type { JobTable, Settlement } from "./types.ts";

/** Statements that report the batch to the circuit breakers. In most batches one, which reports successes only. */
export function accountReports(all: readonly Settlement[]): Statement[] {
  // Nearly always one account: a tenant's rows go through its own or through the platform's.
  const accounts = new Set(all.flatMap(({ account }) => (account === null ? [] : [account])));
  return [...accounts].flatMap((account) =>
    reportsOf(
      account,
      all.filter((settlement) => settlement.account === account),
    ),
  );
}

function reportsOf(account: string, settlements: readonly Settlement[]): Statement[] {
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
      text: "select brainops_internal.record_breaker_result($1, $2, $3, $4)",
      values: [account, succeeded, failed.length, last === undefined ? null : reasonOf(last)],
    },
    ...wait,
  ];
}

/** The statement that pauses the table, if a row was held; the first of several reasons counts. */
export function pauses(table: JobTable, settlements: readonly Settlement[]): Statement[] {
  return settlements
    .flatMap(({ outcome }) => (outcome.kind === "hold" ? [outcome] : []))
    .slice(0, 1)
    .map((outcome) => ({
      text: "select brainops_internal.pause_account($1, $2, $3)",
      values: [table.table_name, outcome.scope === "everyone", reasonOf(outcome)],
    }));
}
