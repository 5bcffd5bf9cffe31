// The effect of a row of payment_link_closures: the payment link is deactivated.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { deactivatePaymentLink, findPaymentLink, type StripeAccount } from "../../providers/stripe.ts";
import type { SealedCredential } from "../credentials/store.ts";
import { deferUntilSet } from "../retry.ts";
import { accountOf, type TenantAccount } from "./account.ts";

// A change of the tenant's credentials wakes waiting rows; the retry only covers a missed change.
const CLOSURE_RETRY_MS = 60 * 60_000;

const NOT_HERE =
  "the Stripe credential that the link may have been created with is deleted, and the tenant's current Stripe account has no link for this request; look for the link at Stripe";

export interface PaymentClosureRow extends JobRow, TenantAccount {
  readonly payment_request_id: string;
  readonly key_generation: number;
  /** Null if it is unknown whether the link exists. */
  readonly stripe_payment_link_id: string | null;
  /** Id of the tenant credential that created the link; null for the platform's account. */
  readonly made_through: string | null;
  /** That credential, active or not; null if it is deleted. */
  readonly made_through_sealed: SealedCredential | null;
}

export const loadPaymentClosures = `
  select id, tenant_id, attempts, max_attempts, payment_request_id, key_generation, stripe_payment_link_id, made_through,
    made_through_sealed, own_account, own_account_id
  from brainops_internal.load_payment_link_closures($1)
`;

/**
 * Deactivates the link in the account that created it, even if the tenant's credential is inactive: an
 * open link would take money for a cancelled request. If the credential is deleted, uses the tenant's current
 * credential, which may be another key of the same account. If it is for another account, Stripe does not find the
 * link, and the row fails.
 */
export async function deactivateLink(row: PaymentClosureRow, context: JobContext): Promise<Outcome> {
  const sealed = row.made_through === null ? null : (row.made_through_sealed ?? row.own_account);
  if (row.made_through !== null && sealed === null) {
    return waiting("is deleted; set it again, or deactivate the link at Stripe", context);
  }
  const account = accountOf({ own_account: sealed }, context);
  if ("kind" in account) return account;
  const outcome = await deactivateIn(row, account, context);
  const isInactive = row.made_through_sealed !== null && row.made_through !== row.own_account_id;
  // The credential is no longer in use, so a pause would only hold the links of the tenant's current account.
  return outcome.kind === "hold" && isInactive
    ? waiting("is inactive and Stripe rejects its key; set it again, or deactivate the link at Stripe", context)
    : outcome;
}

async function deactivateIn(row: PaymentClosureRow, account: StripeAccount, context: JobContext): Promise<Outcome> {
  if (row.stripe_payment_link_id !== null) return deactivatePaymentLink(account, row.stripe_payment_link_id);

  const name = { tenantId: row.tenant_id, requestId: row.payment_request_id, generation: row.key_generation };
  const found = await findPaymentLink(account, name, context.signal);
  if (found === null) {
    const isElsewhere = row.made_through !== null && row.made_through_sealed === null;
    return isElsewhere ? { kind: "fail", reason: NOT_HERE } : { kind: "completed" };
  }
  if ("kind" in found) return found;
  const outcome = await deactivatePaymentLink(account, found.id);
  return outcome.kind === "completed" ? { kind: "completed", result: { stripe_payment_link_id: found.id } } : outcome;
}

/** Defers, because the credential may be set again. After job_tables.max_deferrals the row fails. */
function waiting(problem: string, { now }: JobContext): Outcome {
  return deferUntilSet(`the tenant's Stripe credential that created the link ${problem}`, now(), CLOSURE_RETRY_MS);
}
