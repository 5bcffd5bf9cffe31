// Loads what a broadcast's mails need: the recipients in the claim's transaction, the shared content
// once per bulk call.
import type { JobContext, JobRow } from "../../jobs/define.ts";
import type { SealedCredential } from "../credentials/store.ts";
import type { EmailRow } from "./load.ts";

export interface RecipientRow extends JobRow {
  readonly broadcast_id: string;
  readonly metadata: EmailRow["metadata"];
  readonly address: string;
  readonly lead: EmailRow["lead"];
  readonly unsubscribe_token: string;
}

export const loadRecipients = `
  select id, tenant_id, attempts, max_attempts, broadcast_id, metadata, address, lead, unsubscribe_token
  from brainops_internal.load_recipients($1)
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
    "select subject, body, metadata, tenant, credential from brainops_internal.load_broadcast($1)",
    [id],
  );
  const [broadcast] = rows as Broadcast[];
  if (broadcast === undefined) throw new Error(`broadcast ${id} does not exist any more`);
  return broadcast;
}
