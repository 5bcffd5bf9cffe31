// The effect of a row of payment_link_closures: the link takes no payment any more.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import { deactivatePaymentLink, findPaymentLink } from "../../providers/stripe.ts";
import { accountOf, ownAccountColumns, type OwnAccount } from "./account.ts";

export interface PaymentClosureRow extends JobRow, OwnAccount {
  readonly payment_request_id: string;
  readonly key_generation: number;
  /** Null where nobody knows whether there is one. */
  readonly stripe_payment_link_id: string | null;
  /** The tenant's credential that the link was made through; null for the installation's account. */
  readonly made_through: string | null;
}

export const loadPaymentClosures = `
  select
    c.id,
    c.tenant_id,
    c.attempts,
    c.max_attempts,
    c.payment_request_id,
    c.key_generation,
    c.stripe_payment_link_id,
    c.account as made_through,
    ${ownAccountColumns("c.tenant_id")}
  from public.payment_link_closures as c
  where c.id = any ($1)
`;

export async function deactivateLink(row: PaymentClosureRow, context: JobContext): Promise<Outcome> {
  const own = row.made_through !== null && row.made_through === row.own_account_id;
  if (row.made_through !== null && !own) {
    return {
      kind: "fail",
      reason: "the tenant's own Stripe account that the link was made through is switched off; deactivate it at Stripe",
    };
  }
  const account = accountOf(own ? row : { own_account: null, own_account_id: null }, context);
  if ("kind" in account) return account;
  if (row.stripe_payment_link_id !== null) return deactivatePaymentLink(account, row.stripe_payment_link_id);

  const name = { tenantId: row.tenant_id, requestId: row.payment_request_id, generation: row.key_generation };
  const found = await findPaymentLink(account, name, context.signal);
  if (found === null) return { kind: "completed" };
  if ("kind" in found) return found;
  const outcome = await deactivatePaymentLink(account, found.id);
  return outcome.kind === "completed" ? { kind: "completed", result: { stripe_payment_link_id: found.id } } : outcome;
}
