// The effect of a row of payment_requests: exactly one payment link.
//
// The idempotency key is stored in the row before Stripe is called, so a second attempt (after a crash
// or a lost response) returns the same link. A key ends in two ways: Stripe forgets it after 24 hours,
// or stores a 5xx under it permanently. In both cases the list of links is searched before a new key is
// used.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { Outcome } from "../../jobs/outcome.ts";
import {
  createPaymentLink,
  findPaymentLink,
  SPOILED_KEY,
  type PaymentLink,
  type PaymentLinkOrder,
  type StripeAccount,
} from "../../providers/stripe.ts";
import { accountOf, type TenantAccount } from "./account.ts";

export interface PaymentRequestRow extends JobRow, TenantAccount {
  readonly plan_name: string;
  /** A bigint as text. */
  readonly amount_minor: string;
  readonly currency: string;
  readonly interval: PaymentLinkOrder["interval"];
  readonly success_url: string | null;
}

export const loadPaymentRequests = `
  select id, tenant_id, attempts, max_attempts, plan_name, amount_minor, currency, interval, success_url, own_account,
    own_account_id
  from brainops_internal.load_payment_requests($1)
`;

interface Begun {
  readonly idempotency_key: string;
  readonly key_generation: number;
  readonly look_first: boolean;
  readonly same_account: boolean;
  readonly stripe_payment_link_id: string | null;
}

const OTHER_ACCOUNT =
  "the link was started in another Stripe account; for a new link set payment_status to cancelled, then to open";

/** Creates the row's payment link, or returns the one that exists. Throws OP035 or OP036 as accountOf does. */
export async function createLink(row: PaymentRequestRow, context: JobContext): Promise<Outcome> {
  const account = accountOf(row, context);
  if ("kind" in account) return account;
  const begun = await begin(row, context, false);
  if (begun.stripe_payment_link_id !== null) return { kind: "completed" };
  if (!begun.same_account) return { kind: "fail", reason: OTHER_ACCOUNT };
  if (begun.look_first) return findOrRenew(row, begun, account, context);

  const created = await createPaymentLink(account, orderOf(row, begun), begun.idempotency_key);
  return created === SPOILED_KEY ? findOrRenew(row, begun, account, context) : outcomeOf(created);
}

/** The key cannot be used any more: returns the link if it exists nevertheless, else a link under the next key. */
async function findOrRenew(
  row: PaymentRequestRow,
  spent: Begun,
  account: StripeAccount,
  context: JobContext,
): Promise<Outcome> {
  const found = await findPaymentLink(account, orderOf(row, spent), context.signal);
  if (found !== null) return outcomeOf(found);
  // Past the deadline another worker may own the row, so do not create a new key.
  if (context.signal.aborted) return { kind: "retry", reason: "the time limit ended before the link was created" };
  const begun = await begin(row, context, true);
  const created = await createPaymentLink(account, orderOf(row, begun), begun.idempotency_key);
  return created === SPOILED_KEY
    ? { kind: "retry", reason: "Stripe returns a stored error under a new key as well" }
    : outcomeOf(created);
}

async function begin(row: PaymentRequestRow, context: JobContext, newKey: boolean): Promise<Begun> {
  const { rows } = await context.query("select * from brainops_internal.begin_payment_link($1, $2, $3)", [
    row.id,
    row.own_account_id,
    newKey,
  ]);
  const [begun] = rows as Begun[];
  if (begun === undefined) throw new Error("begin_payment_link returned nothing");
  return begun;
}

function outcomeOf(result: PaymentLink | Outcome): Outcome {
  if ("kind" in result) return result;
  return {
    kind: "completed",
    result: { payment_url: result.url, stripe_payment_link_id: result.id, livemode: result.livemode },
  };
}

function orderOf(row: PaymentRequestRow, begun: Begun): PaymentLinkOrder {
  return {
    tenantId: row.tenant_id,
    requestId: row.id,
    generation: begun.key_generation,
    name: row.plan_name,
    amountMinor: Number(row.amount_minor),
    currency: row.currency,
    interval: row.interval,
    successUrl: row.success_url,
  };
}
