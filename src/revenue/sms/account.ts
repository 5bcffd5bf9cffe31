// The Twilio accounts that texts are sent through, with their From numbers.
import type { Config } from "../../config.ts";
import type { TwilioAccount } from "../../providers/twilio.ts";
import { openCredential, type SealedCredential } from "../credentials/store.ts";

/** The tenant's account. Throws OP035 or OP036 if its credential cannot be opened. */
export function tenantAccount(sealed: SealedCredential, config: Config): TwilioAccount {
  const { account_sid, auth_token, from } = openCredential("twilio", sealed, config);
  return { accountSid: account_sid, authToken: auth_token, from, baseUrl: config.TWILIO_BASE_URL, owner: "tenant" };
}

/** The platform's account; null unless TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and TWILIO_FROM are all set. */
export function platformAccount(config: Config): TwilioAccount | null {
  const { TWILIO_ACCOUNT_SID: accountSid, TWILIO_AUTH_TOKEN: authToken, TWILIO_FROM: from } = config;
  if (accountSid === undefined || authToken === undefined || from === undefined) return null;
  return { accountSid, authToken, from, baseUrl: config.TWILIO_BASE_URL, owner: "platform" };
}
