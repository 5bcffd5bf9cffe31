// Loads what a mail needs besides its row. Runs in the claim's transaction.
import type { JobRow } from "../../jobs/define.ts";
import { sealedCredential, type SealedCredential } from "../credentials/store.ts";

export interface EmailRow extends JobRow {
  readonly subject: string;
  readonly body: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The recipient's current address; null if the row was not claimed. */
  readonly address: string;
  /** Null if the mail is not linked to a lead. */
  readonly lead: Readonly<Record<string, unknown>> | null;
  readonly tenant: {
    readonly name: string;
    readonly slug: string;
    readonly settings: Readonly<Record<string, unknown>>;
  };
  /** The tenant's SendGrid credential; null if its mail goes through the platform's account. */
  readonly credential: SealedCredential | null;
  /** Null unless the mail is marketing. */
  readonly unsubscribe_token: string | null;
}

/**
 * CTE `links`: tenant_id, address_key and the unsubscribe token of every address of CTE `step`, created
 * where missing.
 */
export function unsubscribeLinks(step: string): string {
  return `links as materialized (
      select s.tenant_id, t.address_key, t.token
      from (select tenant_id, array_agg(address) as addresses from ${step} group by tenant_id) as s
      cross join lateral brainops_internal.unsubscribe_tokens(s.tenant_id, s.addresses) as t
    )`;
}

// Only rows in processing: the gate may have rejected some of $1, and reading creates missing tokens.
export const loadEmails = `
  with
    mails as materialized (
      select e.*, a.address, lower(btrim(a.address)) as address_key
      from public.ai_email_queue as e
      cross join lateral brainops_internal.email_address(e) as a (address)
      where e.id = any ($1) and e.status = 'processing' and e.broadcast_id is null
    ),
    marketing as (
      select m.tenant_id, m.address from mails as m where m.is_marketing
    ),
    ${unsubscribeLinks("marketing")}
  select
    e.id,
    e.tenant_id,
    e.attempts,
    e.max_attempts,
    e.subject,
    e.body,
    e.metadata,
    e.address,
    to_jsonb(l) - 'tenant_id' as lead,
    jsonb_build_object('name', t.name, 'slug', t.slug, 'settings', t.settings) as tenant,
    ${sealedCredential("sendgrid", "e.tenant_id")} as credential,
    case when e.is_marketing then k.token end as unsubscribe_token
  from mails as e
  inner join public.tenants as t on t.id = e.tenant_id
  left join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
  left join links as k on k.tenant_id = e.tenant_id and k.address_key = e.address_key
`;
