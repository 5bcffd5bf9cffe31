// Loads what a text needs besides its row. Runs in the claim's transaction.
import type { JobRow } from "../../jobs/define.ts";
import type { SealedCredential } from "../credentials/store.ts";

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
  /** Token of the endpoint that receives that account's callbacks; null if and only if own_account is null. */
  readonly endpoint_token: string | null;
  /** The tenant's From number (sms_numbers); null for the account's From number. */
  readonly sender: string | null;
  /** Whether the text must say how to opt out: true for the first marketing text to a person. */
  readonly must_tell: boolean;
}

export const loadSms = `
  select id, tenant_id, attempts, max_attempts, lease, body, metadata, address, lead, tenant, own_account, endpoint_token,
    sender, must_tell
  from brainops_internal.load_sms($1)
`;
