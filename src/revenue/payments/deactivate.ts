// The effect of a row of payment_link_closures: the link takes no payment any more.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { deactivatePaymentLink, findPaymentLink, type StripeAccount } from "../../providers/stripe.ts";
import { sealedCredentialOf, type SealedCredential } from "../credentials/store.ts";
import { accountOf, ownAccountColumns, type OwnAccount } from "./account.ts";

// A change of the tenant's credentials wakes what waits here, so asking is for what went past that.
const ASK_AGAIN_MS = 60 * 60_000;

const NOT_HERE =
  "the tenant's own Stripe account that the link may have been made through is erased, and the present one has no link of this request; look for it at Stripe";

export interface PaymentClosureRow extends JobRow, OwnAccount {
  readonly payment_request_id: string;
  readonly key_generation: number;
  /** Null where nobody knows whether there is one. */
  readonly stripe_payment_link_id: string | null;
  /** The tenant's credential that the link was made through; null for the installation's account. */
  readonly made_through: string | null;
  /** That credential, though it is switched off by now; null once it is erased. */
  readonly made_through_sealed: SealedCredential | null;
}

export const loadPaymentClosures = `
  select
    l.id,
    l.tenant_id,
    l.attempts,
    l.max_attempts,
    l.payment_request_id,
    l.key_generation,
    l.stripe_payment_link_id,
    l.account as made_through,
    ${sealedCredentialOf("l.account", "l.tenant_id")} as made_through_sealed,
    ${ownAccountColumns("l.tenant_id")}
  from public.payment_link_closures as l
  where l.id = any ($1)
`;

/**
 * Through the account that the link was made through, though the tenant has switched it off: a link that stays open takes
 * money for what is cancelled. Where that credential is erased, through the tenant's present one, which may be the same
 * account under another key; Stripe says so where it is not.
 */
export async function deactivateLink(row: PaymentClosureRow, context: JobContext): Promise<Outcome> {
  const sealed = row.made_through === null ? null : (row.made_through_sealed ?? row.own_account);
  if (row.made_through !== null && sealed === null) {
    return waiting("is erased; write its credential again, or deactivate the link at Stripe", context);
  }
  const account = accountOf({ own_account: sealed }, context);
  if ("kind" in account) return account;
  const outcome = await switchOff(row, account, context);
  const isOff = row.made_through_sealed !== null && row.made_through !== row.own_account_id;
  // The account is out of use: a pause would hold the links that the tenant makes elsewhere.
  return outcome.kind === "hold" && isOff
    ? waiting("is switched off and refuses its key; write its credential again, or deactivate the link there", context)
    : outcome;
}

async function switchOff(row: PaymentClosureRow, account: StripeAccount, context: JobContext): Promise<Outcome> {
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

/** Later, and not never: the credential may come back. max_deferrals ends it as failed. */
function waiting(why: string, { now }: JobContext): Outcome {
  return {
    kind: "defer",
    reason: `waiting: the tenant's own Stripe account that the link was made through ${why}`,
    at: new Date(now().getTime() + ASK_AGAIN_MS),
  };
}
