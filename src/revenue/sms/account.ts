// Through which Twilio account a text goes, and from which number.
import type { Config } from "../../config.ts";
import type { TwilioAccount } from "../../providers/twilio.ts";
import { openCredential, type SealedCredential } from "../credentials/store.ts";

/** Throws a BrainOpsError where the tenant's own credential does not open. */
export function ownAccount(sealed: SealedCredential, config: Config): TwilioAccount {
  const { account_sid, auth_token, from } = openCredential("twilio", sealed, config);
  return { accountSid: account_sid, authToken: auth_token, from, baseUrl: config.TWILIO_BASE_URL, isTenants: true };
}

/** The installation's; null where its variables are not set. */
export function commonAccount(config: Config): TwilioAccount | null {
  const { TWILIO_ACCOUNT_SID: accountSid, TWILIO_AUTH_TOKEN: authToken, TWILIO_FROM: from } = config;
  if (accountSid === undefined || authToken === undefined || from === undefined) return null;
  return { accountSid, authToken, from, baseUrl: config.TWILIO_BASE_URL, isTenants: false };
}
