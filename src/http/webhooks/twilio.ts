// POST /webhooks/twilio/status and /webhooks/twilio/inbound, each also with /<token> for tenants' own
// accounts. What an event means is decided by brainops_internal.apply_twilio_event. Twilio does not retry, so
// every signed request is answered with 2xx as long as the ledger can be written.
import type pg from "pg";
import type { Config } from "../../config.ts";
import type { Endpoint } from "../../revenue/credentials/store.ts";
import { cleanText } from "../../text.ts";
import { SEALED_ACCOUNT, type Receipt, type Verified, type Verifier, type Webhook } from "./receive.ts";
import { isGenuine, parseParameters, SIGNATURE_HEADER, type Parameters } from "./twilioSignature.ts";

/** Sends nothing to the person: replies are rows of ai_sms_queue. */
const NO_REPLY = '<?xml version="1.0" encoding="UTF-8"?>\n<Response/>\n';

type Kind = "status" | "inbound";

export function twilioWebhook(kind: Kind, config: Config): Webhook<"twilio", string, Parameters> {
  const { TWILIO_AUTH_TOKEN: authToken, PUBLIC_URL: publicUrl } = config;
  // Not the request's Host header, which a proxy can change and an attacker can choose.
  const origin = publicUrl === undefined ? "" : new URL(publicUrl).origin;
  // The signed text has no delimiters: a parameter of the body could be moved to the end of the query, under the same
  // signature. So the query must be the one that this program gives to Twilio, and nothing more.
  const query = { status: /^[^?]*(?:\?row=[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?$/, inbound: /^[^?]*$/ }[kind];
  const isOurs = (url: string): boolean => query.test(url);
  const verifierOf =
    (token: string): Verifier<string> =>
    ({ signed, url, body }) =>
      isOurs(url) && isGenuine(token, `${origin}${url}`, parseParameters(body), signed);
  return {
    provider: "twilio",
    signer: "Twilio",
    path: `/webhooks/twilio/${kind}`,
    // A text has at most 1600 characters; everything else that Twilio sends is short.
    bodyLimit: 64 * 1024,
    bodyFormat: "URL-encoded form",
    needs: ["PUBLIC_URL"],
    readSignature: ({ [SIGNATURE_HEADER]: given }) => (typeof given === "string" && given !== "" ? given : null),
    platform: {
      needs: ["TWILIO_AUTH_TOKEN"],
      verifier: authToken === undefined ? null : verifierOf(authToken),
    },
    tenantVerifier: ({ auth_token: own }) => verifierOf(own),
    // A STOP still counts after the tenant has switched the account off.
    acceptsInactive: true,
    sealedError: SEALED_ACCOUNT,
    parse: parseParameters,
    accept: (request, pool) => recordEvent(kind, request, pool),
  };
}

async function recordEvent(
  kind: Kind,
  { body: parameters, query, endpoint }: Verified<string, Parameters, Endpoint | null>,
  pool: pg.Pool,
): Promise<Receipt> {
  const { rows } = await pool.query<{ recorded: number }>(
    "select brainops_internal.record_twilio_event($1::jsonb, $2) as recorded",
    [JSON.stringify(eventOf(kind, query, parameters)), endpoint?.tenant_id ?? null],
  );
  const added = (rows[0]?.recorded ?? 0) > 0 ? 1 : 0;
  const counts = { added, known: 1 - added };
  return kind === "status"
    ? { status: 204, ...counts }
    : { status: 200, type: "text/xml; charset=utf-8", body: NO_REPLY, ...counts };
}

/** Twilio's parameters as received, and ours under names that Twilio does not use. */
function eventOf(kind: Kind, query: unknown, parameters: Parameters): object {
  const theirs = [...parameters].map(([name, values]) => {
    const clean = values.map(cleanText);
    return [cleanText(name), clean.length === 1 ? clean[0] : clean] as const;
  });
  const sid = lastOf(parameters, "MessageSid") ?? lastOf(parameters, "SmsSid");
  const status = lastOf(parameters, "MessageStatus") ?? lastOf(parameters, "SmsStatus") ?? "";
  const { row } = query as { readonly row?: unknown };
  return {
    ...Object.fromEntries(theirs),
    kind,
    // Without a MessageSid the ledger compares the contents.
    event_id: sid === undefined ? null : kind === "status" ? `${sid}:${status}` : sid,
    row: kind === "status" && typeof row === "string" ? cleanText(row) : null,
  };
}

function lastOf(parameters: Parameters, name: string): string | undefined {
  const value = parameters.get(name)?.at(-1);
  return value === undefined ? undefined : cleanText(value);
}
