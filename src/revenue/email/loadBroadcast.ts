// What a broadcast's mails need: recipients with the claim, the content they share once for all.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import { sealedCredential, type SealedCredential } from "../credentials/store.ts";
import type { EmailRow } from "./load.ts";

export interface RecipientRow extends JobRow {
  readonly broadcast_id: string;
  readonly metadata: EmailRow["metadata"];
  readonly address: string;
  readonly lead: EmailRow["lead"];
  readonly unsubscribe_token: string;
}

// Links in two statements for all, and one by one only for those that another claim makes in this
// very moment: unsubscribe_token() writes each time it is asked.
export const loadRecipients = `
  with
    recipients as materialized (
      select e.id, e.tenant_id, e.attempts, e.max_attempts, e.broadcast_id, e.metadata, e.lead_id, a.address,
        lower(btrim(a.address)) as address_key
      from public.ai_email_queue as e
      cross join lateral brainops.email_address(e) as a (address)
      where e.id = any ($1) and e.status = 'processing' and e.broadcast_id is not null
    ),
    known as materialized (
      select l.address_key, l.token
      from public.email_unsubscribe_links as l
      where (l.tenant_id, l.address_key) in (select r.tenant_id, r.address_key from recipients as r)
    ),
    made as (
      insert into public.email_unsubscribe_links (tenant_id, address_key)
      select distinct r.tenant_id, r.address_key
      from recipients as r
      where r.address_key is not null and not exists (select from known as k where k.address_key = r.address_key)
      -- One order for everyone, so that two claims never wait for each other crosswise.
      order by r.address_key
      on conflict do nothing
      returning address_key, token
    )
  select r.id, r.tenant_id, r.attempts, r.max_attempts, r.broadcast_id, r.metadata, r.address,
    to_jsonb(d) - 'tenant_id' as lead,
    coalesce(k.token, m.token, brainops.unsubscribe_token(r.tenant_id, r.address)) as unsubscribe_token
  from recipients as r
  left join known as k on k.address_key = r.address_key
  left join made as m on m.address_key = r.address_key
  left join public.revenue_leads as d on d.tenant_id = r.tenant_id and d.id = r.lead_id
`;

/** What all recipients share. */
export interface Broadcast {
  readonly subject: string;
  readonly body: string;
  readonly metadata: EmailRow["metadata"];
  readonly tenant: EmailRow["tenant"];
  readonly credential: SealedCredential | null;
}

export async function readBroadcast({ query }: Pick<JobContext, "query">, id: string): Promise<Broadcast> {
  const { rows } = await query(
    `select b.subject, b.body, b.metadata,
       jsonb_build_object('name', t.name, 'slug', t.slug, 'settings', t.settings) as tenant,
       ${sealedCredential("sendgrid", "b.tenant_id")} as credential
     from public.ai_broadcasts as b inner join public.tenants as t on t.id = b.tenant_id
     where b.id = $1`,
    [id],
  );
  const [broadcast] = rows as Broadcast[];
  if (broadcast === undefined) throw new Error(`broadcast ${id} is gone`);
  return broadcast;
}
