// How an effect ended, as a value: the engine decides retry, stop or later by its kind, never by
// the text of an error.
import { BrainOpsError, messageOf } from "../errors.ts";

/**
 * - completed: it happened. `result` fills the table's result_columns.
 * - retry: it did not happen, and may later: at `at`, or after the usual delay. Costs an attempt.
 * - defer: "not before `at`". Costs no attempt; max_deferrals bounds it. With `holdsSender` the
 *   provider said so of everything: no row of the sender goes before.
 * - fail: it can never happen as the row stands; a person changes the row and sets it to pending.
 * - skip: it must not happen.
 * - unconfirmed: nobody knows whether it happened. Never tried again blindly.
 * - pause: nothing of this table can go for now (wrong key, account suspended). The table is
 *   paused with the reason, for the tenant or for all, until a person resumes it.
 */
export type Outcome =
  | { readonly kind: "completed"; readonly result?: Readonly<Record<string, string | number | boolean | Date | null>> }
  | { readonly kind: "retry"; readonly reason: string; readonly at?: Date }
  | { readonly kind: "defer"; readonly reason: string; readonly at: Date; readonly holdsSender?: boolean }
  | { readonly kind: "fail"; readonly reason: string }
  | { readonly kind: "skip"; readonly reason: string }
  | { readonly kind: "unconfirmed"; readonly reason: string }
  | { readonly kind: "pause"; readonly reason: string; readonly scope: "tenant" | "everyone" };

/** How a row's turn ended. */
export interface Ended {
  readonly outcome: Outcome;
  /** Whether it says something of the sender: a row whose effect never began does not, and of rows that shared a call one does. */
  readonly reachedSender: boolean;
}

// A tenant's own credential that this worker cannot open: not the row's fault, and not the row's to mend.
const SEALED = new Set<string>(["OP035", "OP036"]);

/** What it means that a row could not be prepared: it never reached the sender. */
export function afterRefusal(error: unknown): Ended {
  return { outcome: refusal(error), reachedSender: false };
}

function refusal(error: unknown): Outcome {
  const reason = messageOf(error);
  if (!(error instanceof BrainOpsError)) return { kind: "fail", reason };
  if (SEALED.has(error.code))
    return { kind: "pause", scope: "tenant", reason: `${error.code}: ${reason} ${error.hint}` };
  return { kind: "fail", reason: `${error.code}: ${reason}` };
}

/** What an outcome says about the sender's health: whether its circuit breaker counts it. */
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
    case "pause":
      return "unknown";
    default:
      return outcome satisfies never;
  }
}
