// Loads what a text needs besides its row. Runs in the claim's transaction.
import type { JobRow } from "../../jobs/define.ts";
import { sealedCredential, type SealedCredential } from "../credentials/store.ts";

export interface SmsRow extends JobRow {
  /** The claim's lease; writes before the effect are conditional on it. */
  readonly lease: string;
  readonly body: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The recipient's current number: in E.164 if SQL could read it, else as it was entered. */
  readonly address: string;
  /** Null if the text is not linked to a lead. */
  readonly lead: Readonly<Record<string, unknown>> | null;
  readonly tenant: {
    readonly name: string;
    readonly slug: string;
    readonly settings: Readonly<Record<string, unknown>>;
    /** ISO 3166, two letters. */
    readonly country: string;
  };
  /** The tenant's Twilio credential; null if its texts go through the platform's account. */
  readonly own_account: SealedCredential | null;
  /** Token of the endpoint that receives that account's callbacks; null exactly if own_account is null. */
  readonly endpoint_token: string | null;
  /** The tenant's From number (sms_numbers); null for the account's From number. */
  readonly sender: string | null;
  /** Whether the text must say how to opt out: true for the first marketing text to a person. */
  readonly must_tell: boolean;
}

const ownAccount = sealedCredential("twilio", "e.tenant_id");
const endpointToken = `(
      select c.endpoint_token from public.provider_credentials as c
      where c.tenant_id = e.tenant_id and c.provider = 'twilio' and c.name = 'default' and c.active
    )`;

export const loadSms = `
  select
    e.id,
    e.tenant_id,
    e.attempts,
    e.max_attempts,
    e.lease,
    e.body,
    e.metadata,
    a.address,
    to_jsonb(l) - 'tenant_id' as lead,
    jsonb_build_object(
      'name', t.name, 'slug', t.slug, 'settings', t.settings, 'country', brainops_internal.tenant_country(t.settings)
    ) as tenant,
    o.account as own_account,
    o.endpoint_token,
    s.sender,
    brainops_internal.sms_needs_opt_out_notice(e, a.address, case when o.account is not null then 'own' else s.sender end) as must_tell
  from public.ai_sms_queue as e
  inner join public.tenants as t on t.id = e.tenant_id
  left join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
  cross join lateral brainops_internal.sms_address(e) as a (address)
  cross join lateral (select ${ownAccount}, ${endpointToken}) as o (account, endpoint_token)
  cross join lateral (
    select case when o.account is null then brainops_internal.sms_sender(e.tenant_id, a.address) end
  ) as s (sender)
  where e.id = any ($1) and e.status = 'processing'
`;
