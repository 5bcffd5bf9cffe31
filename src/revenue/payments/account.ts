// The Stripe account of a row: the tenant's if it has one, else the platform's.
import type { JobContext } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import type { StripeAccount } from "../../providers/stripe.ts";
import { openCredential, type SealedCredential } from "../credentials/store.ts";
import { deferUntilSet } from "../retry.ts";

/** The tenant's Stripe credential and its id; both null if the tenant has none. */
export interface TenantAccount {
  readonly own_account: SealedCredential | null;
  readonly own_account_id: string | null;
}

/** The account, or a defer outcome if it has none. Throws OP035 or OP036 if the tenant's credential cannot be opened. */
export function accountOf(
  row: Pick<TenantAccount, "own_account">,
  { config, now }: Pick<JobContext, "config" | "now">,
): StripeAccount | Outcome {
  if (row.own_account !== null) {
    const { secret_key: secretKey } = openCredential("stripe", row.own_account, config);
    return { secretKey, baseUrl: config.STRIPE_BASE_URL, owner: "tenant" };
  }
  const { STRIPE_SECRET_KEY: secretKey, STRIPE_BASE_URL: baseUrl } = config;
  if (secretKey !== undefined) return { secretKey, baseUrl, owner: "platform" };
  // The claim checks that the row has an account. Only one case gets here: closing a link that was created through the
  // platform's account, for a tenant that now has an account of its own.
  return deferUntilSet("STRIPE_SECRET_KEY is not set", now());
}
