// Requests as Twilio posts them, signed by its SDK.
import { randomBytes } from "node:crypto";
import twilioWebhooks from "twilio/lib/webhooks/webhooks.js";

const { getExpectedTwilioSignature } = twilioWebhooks;

export const authToken = "an-invented-token";
/** The address that Twilio knows; the server listens elsewhere, as behind a proxy. */
export const publicUrl = "https://ops.example";

export const environment = {
  TWILIO_ACCOUNT_SID: `AC${"0".repeat(31)}1`,
  TWILIO_AUTH_TOKEN: authToken,
  TWILIO_FROM: "+15005550006",
  PUBLIC_URL: publicUrl,
};

export interface TwilioPost {
  /** Path and query, exactly as requested. */
  readonly path: string;
  readonly parameters: Readonly<Record<string, string | string[]>>;
}

export const sid = (): string => `SM${randomBytes(16).toString("hex")}`;

export function statusOf(
  row: string | undefined,
  messageSid: string,
  status: string,
  more: Record<string, string> = {},
): TwilioPost {
  return {
    path: `/webhooks/twilio/status${row === undefined ? "" : `?row=${row}`}`,
    parameters: {
      MessageSid: messageSid,
      SmsSid: messageSid,
      MessageStatus: status,
      SmsStatus: status,
      AccountSid: environment.TWILIO_ACCOUNT_SID,
      From: environment.TWILIO_FROM,
      ApiVersion: "2010-04-01",
      ...more,
    },
  };
}

export function inboundOf(from: string, body: string, more: Record<string, string> = {}): TwilioPost {
  const messageSid = sid();
  return {
    path: "/webhooks/twilio/inbound",
    parameters: {
      MessageSid: messageSid,
      SmsSid: messageSid,
      SmsStatus: "received",
      From: from,
      To: environment.TWILIO_FROM,
      Body: body,
      NumMedia: "0",
      ...more,
    },
  };
}

export interface PostChanges {
  readonly token?: string;
  readonly signature?: string;
  /** The URL that is signed, if it is not the requested one. */
  readonly signedUrl?: string;
  /** Sent instead of the signed body. */
  readonly sentBody?: string;
  readonly sentPath?: string;
}

export function postTwilio(
  server: { readonly url: string },
  { path, parameters }: TwilioPost,
  changes: PostChanges = {},
): Promise<Response> {
  const { token = authToken, signedUrl = `${publicUrl}${path}`, sentBody, sentPath = path } = changes;
  const signature = changes.signature ?? getExpectedTwilioSignature(token, signedUrl, { ...parameters });
  return fetch(`${server.url}${sentPath}`, {
    method: "POST",
    headers: {
      "content-type": "application/x-www-form-urlencoded; charset=UTF-8",
      ...(signature === "" ? {} : { "x-twilio-signature": signature }),
    },
    body: sentBody ?? bodyOf(parameters),
  });
}

export function bodyOf(parameters: TwilioPost["parameters"]): string {
  const pairs = Object.entries(parameters).flatMap(([name, values]) =>
    [values].flat().map((value): [string, string] => [name, value]),
  );
  return new URLSearchParams(pairs).toString();
}
