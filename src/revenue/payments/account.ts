// Through which Stripe account a row goes: the tenant's own, else the installation's.
import type { JobContext } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import type { StripeAccount } from "../../providers/stripe.ts";
import { openCredential, sealedCredential, type SealedCredential } from "../credentials/store.ts";

const ASK_AGAIN_MS = 10 * 60_000;

/** Columns of a load query; `tenant` is the tenant's id in it, e.g. "r.tenant_id". */
export function ownAccountColumns(tenant: string): string {
  return `${sealedCredential("stripe", tenant)} as own_account,
    (select c.id from public.provider_credentials as c
     where c.tenant_id = ${tenant} and c.provider = 'stripe' and c.name = 'default' and c.active) as own_account_id`;
}

export interface OwnAccount {
  /** Null where the tenant has none. */
  readonly own_account: SealedCredential | null;
  readonly own_account_id: string | null;
}

/** The account, or why the row has to wait for one. Throws OP035 or OP036 where the tenant's cannot be opened. */
export function accountOf(
  row: Pick<OwnAccount, "own_account">,
  { config, now }: Pick<JobContext, "config" | "now">,
): StripeAccount | Outcome {
  if (row.own_account !== null) {
    const { secret_key: secretKey } = openCredential("stripe", row.own_account, config);
    return { secretKey, baseUrl: config.STRIPE_BASE_URL, isTenants: true };
  }
  const { STRIPE_SECRET_KEY: secretKey, STRIPE_BASE_URL: baseUrl } = config;
  if (secretKey !== undefined) return { secretKey, baseUrl, isTenants: false };
  // The claim saw to it that there is an account: only a link that was made through the installation's,
  // of a tenant that has its own by now, gets here.
  return {
    kind: "defer",
    reason: "waiting: STRIPE_SECRET_KEY is not set",
    at: new Date(now().getTime() + ASK_AGAIN_MS),
  };
}
