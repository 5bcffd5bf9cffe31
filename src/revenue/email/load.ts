// Loads what a mail needs besides its row. Runs in the claim's transaction.
import type { JobRow } from "../../jobs/define.ts";
import type { SealedCredential } from "../credentials/store.ts";

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

export const loadEmails = `
  select id, tenant_id, attempts, max_attempts, subject, body, metadata, address, lead, tenant, credential, unsubscribe_token
  from brainops_internal.load_emails($1)
`;
