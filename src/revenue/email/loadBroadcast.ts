// Loads what a broadcast's mails need: the recipients in the claim's transaction, the shared content
// once per bulk call.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import { sealedCredential, type SealedCredential } from "../credentials/store.ts";
import { unsubscribeLinks, type EmailRow } from "./load.ts";

export interface RecipientRow extends JobRow {
  readonly broadcast_id: string;
  readonly metadata: EmailRow["metadata"];
  readonly address: string;
  readonly lead: EmailRow["lead"];
  readonly unsubscribe_token: string;
}

// Loads up to a thousand rows, so each lookup is a join or uses an index, and leads are read only where
// they exist. Row level security allows an index only for conditions on plain columns, so the values to
// look up are computed in an inner query. The address rule is that of brainops_internal.email_address.
export const loadRecipients = `
  with
    recipients as materialized (
      select a.*, lower(btrim(a.address)) as address_key
      from (
        select p.id, p.tenant_id, p.attempts, p.max_attempts, p.broadcast_id, p.metadata, p.lead_id,
          case
            when p.lead_now is null then p.recipient
            else (
              select nullif(btrim(i.email), '') from public.revenue_leads as i
              where i.tenant_id = p.tenant_id and i.id = p.lead_now
            )
          end as address
        from (
          select n.*,
            case when n.named is not null then coalesce(
              (select a.lead_id from public.revenue_lead_aliases as a where a.tenant_id = n.tenant_id and a.id = n.named),
              n.named
            ) end as lead_now
          from (
            select e.id, e.tenant_id, e.attempts, e.max_attempts, e.broadcast_id, e.metadata, e.lead_id, e.recipient,
              brainops_internal.uuid_or_null(e.recipient) as named
            from public.ai_email_queue as e
            where e.id = any ($1) and e.lease is not null and e.broadcast_id is not null
            offset 0
          ) as n
          offset 0
        ) as p
        offset 0
      ) as a
    ),
    ${unsubscribeLinks("recipients")}
  select r.id, r.tenant_id, r.attempts, r.max_attempts, r.broadcast_id, r.metadata, r.address,
    case when r.lead_id is not null then (
      select to_jsonb(l) - 'tenant_id' from public.revenue_leads as l
      where l.tenant_id = r.tenant_id and l.id = r.lead_id
    ) end as lead,
    k.token as unsubscribe_token
  from recipients as r
  left join links as k on k.tenant_id = r.tenant_id and k.address_key = r.address_key
`;

/** What all recipients of a broadcast share. */
export interface Broadcast {
  readonly subject: string;
  readonly body: string;
  readonly metadata: EmailRow["metadata"];
  readonly tenant: EmailRow["tenant"];
  readonly credential: SealedCredential | null;
}

/** Reads the broadcast as the claim's tenant. Throws if it does not exist any more. */
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
  if (broadcast === undefined) throw new Error(`broadcast ${id} does not exist any more`);
  return broadcast;
}
