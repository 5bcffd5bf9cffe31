// How the effect on a row ended, as a value. The engine chooses between retry, stop and later by
// `kind`, never by the text of an error.
//
// One list of outcomes from the gate to the settlement, with the same names in SQL (brainops.verdict,
// brainops_internal.claim, brainops.settlement) and here:
//
//                gate  claim  effect  settle   the row becomes
//   go             -     x      -       -      processing
//   alone          -     x      -       -      pending as before: a suspect, which must be claimed alone
//   slot           x     x      -       -      pending, due at its slot of a rate limit
//   hold           x     x      x       x      pending, due as before; costs no attempt
//   defer          x     x      x       x      pending, due at `at`; costs no attempt
//   skip           x     x      x       x      skipped
//   fail           x     x      x       x      failed
//   completed      -     -      x       x      completed
//   retry          -     -      x       x      pending, due at `at`; failed after max_attempts
//   unconfirmed    -     -      x       x      unconfirmed
import { withoutSecrets } from "../secrets.ts";
import { BrainOpsError, messageOf } from "../errors.ts";
import { cleanText } from "../text.ts";

/**
 * What a claim decides about a due row: `slot` because of a rate limit, `hold` because of a pause or missing
 * credentials, `alone` because it was in flight at the deaths of two workers.
 */
export type ClaimOutcome = "go" | "alone" | "slot" | "hold" | "defer" | "skip" | "fail";

export type HoldScope = "tenant" | "tenant_first" | "everyone";

/**
 * - completed: the effect happened. `result` fills the table's result_columns.
 * - retry: it did not happen, and may succeed later: at `at`, or after the usual delay (brainops_internal.retry_delay).
 *   Costs an attempt; after max_attempts the row is failed.
 * - defer: it must not happen before `at`. Costs no attempt; after max_deferrals the row is failed. With
 *   `holdsAccount` no row of the same provider account goes out before `at` either (a provider's 429).
 * - fail: it cannot happen with the row as it is. A person changes the row and sets its status to pending.
 * - skip: it must not happen.
 * - unconfirmed: it may or may not have happened. The engine never tries it again by itself.
 * - hold: no row of this table can go out for now (wrong key, account suspended). The table is paused with the
 *   reason until a person resumes it. The row stays due. `scope` says for whom: "tenant" is the row's tenant,
 *   "everyone" is for what no row can cause (a wrong key of the platform's account), "tenant_first" for what a row may
 *   have caused: the row's tenant, and everyone once the account refuses a second tenant as well, with no success of
 *   another tenant in between.
 */
export type Outcome =
  | { readonly kind: "completed"; readonly result?: Readonly<Record<string, string | number | boolean | Date | null>> }
  | { readonly kind: "retry"; readonly reason: string; readonly at?: Date }
  | { readonly kind: "defer"; readonly reason: string; readonly at: Date; readonly holdsAccount?: boolean }
  | { readonly kind: "fail"; readonly reason: string }
  | { readonly kind: "skip"; readonly reason: string }
  | { readonly kind: "unconfirmed"; readonly reason: string }
  | { readonly kind: "hold"; readonly reason: string; readonly scope: HoldScope };

/** An outcome, and whether the circuit breaker counts it. */
export interface Result {
  readonly outcome: Outcome;
  /**
   * Whether this outcome counts for the circuit breaker of the row's provider account: a request has left, so the
   * outcome says something about the provider (requests.ts). If several rows shared one call, it is true for only one
   * of them.
   */
  readonly providerCalled: boolean;
}

// A tenant's credential that this worker cannot open: not caused by the row, and editing the row cannot fix it.
const UNREADABLE_CREDENTIAL = new Set<string>(["OP035", "OP036"]);

/** Thrown by `prepare` when the row is not at fault: the row gets this outcome instead of fail. */
export class OutcomeError extends Error {
  readonly outcome: Exclude<Outcome, { kind: "completed" }>;

  constructor(outcome: Exclude<Outcome, { kind: "completed" }>) {
    super(outcome.reason);
    this.name = "OutcomeError";
    this.outcome = outcome;
  }
}

const MAX_REASON_LENGTH = 2000;

/**
 * The outcome of an error that came before the request left: nothing was sent and another attempt would end the same
 * way, so the row fails.
 */
export function unsent(error: unknown): Outcome {
  return { kind: "fail", reason: `not sent: ${messageOf(error)}` };
}

/** The result of a row that could not be prepared: the provider was never called. */
export function afterRefusal(error: unknown): Result {
  return { outcome: refusal(error), providerCalled: false };
}

function refusal(error: unknown): Outcome {
  if (error instanceof OutcomeError) return error.outcome;
  const reason = messageOf(error);
  if (!(error instanceof BrainOpsError)) return { kind: "fail", reason };
  if (UNREADABLE_CREDENTIAL.has(error.code)) {
    return { kind: "hold", scope: "tenant", reason: `${error.code}: ${reason} ${error.hint}` };
  }
  return { kind: "fail", reason: `${error.code}: ${reason}` };
}

/** Whether the circuit breaker counts the outcome as success (up), failure (down) or neither (unknown). */
export function healthOf(outcome: Outcome): "up" | "down" | "unknown" {
  switch (outcome.kind) {
    case "completed":
    case "fail":
    case "skip":
      return "up";
    case "retry":
    case "unconfirmed":
      return "down";
    case "defer":
    case "hold":
      return "unknown";
    default:
      return outcome satisfies never;
  }
}

/** The reason as it is stored: text that Postgres accepts, without secrets, cut to 2,000 UTF-16 units. Null for completed. */
export function reasonOf(outcome: Outcome): string | null {
  // Cut first: the cut may leave half of a surrogate pair.
  if (!("reason" in outcome)) return null;
  // Cut before, because the search takes time, and after, because a cut may end within a secret.
  const reason = withoutSecrets(outcome.reason.slice(0, 2 * MAX_REASON_LENGTH));
  return cleanText(reason.slice(0, MAX_REASON_LENGTH));
}
