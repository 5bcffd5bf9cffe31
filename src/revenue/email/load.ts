// What a mail needs beside its own row, read in the claiming transaction.
import type { JobRow } from "../../jobs/define.ts";
import { sealedCredential, type SealedCredential } from "../credentials/store.ts";

export interface EmailRow extends JobRow {
  readonly subject: string;
  readonly body: string;
  readonly metadata: Readonly<Record<string, unknown>>;
  /** The recipient's address now; null where the row was not claimed. */
  readonly address: string;
  /** Null where the mail is about no lead. */
  readonly lead: Readonly<Record<string, unknown>> | null;
  readonly tenant: {
    readonly name: string;
    readonly slug: string;
    readonly settings: Readonly<Record<string, unknown>>;
  };
  /** The tenant's own account with SendGrid; null where its mail goes through the installation's. */
  readonly credential: SealedCredential | null;
  /** Null unless the mail is marketing. */
  readonly unsubscribe_token: string | null;
}

// Only rows in processing: the gate may have kept some of $1 back, and a token is made on reading.
export const loadEmails = `
  select
    e.id,
    e.tenant_id,
    e.attempts,
    e.max_attempts,
    e.subject,
    e.body,
    e.metadata,
    a.address,
    to_jsonb(l) - 'tenant_id' as lead,
    jsonb_build_object('name', t.name, 'slug', t.slug, 'settings', t.settings) as tenant,
    ${sealedCredential("sendgrid", "e.tenant_id")} as credential,
    case when e.is_marketing then brainops.unsubscribe_token(e.tenant_id, a.address) end as unsubscribe_token
  from public.ai_email_queue as e
  inner join public.tenants as t on t.id = e.tenant_id
  left join public.revenue_leads as l on l.tenant_id = e.tenant_id and l.id = e.lead_id
  cross join lateral brainops.email_address(e) as a (address)
  where e.id = any ($1) and e.status = 'processing' and e.broadcast_id is null
`;
