// The fields of a tenant credential, for each provider.
import { z } from "zod";
import { isSlackWebhook } from "../../providers/slack.ts";

const text = z.string().trim().min(1, "is empty");

export const credentialShapes = {
  sendgrid: z.strictObject({
    api_key: text,
    /** Verification key of the account's event webhook; several keys are separated by commas. */
    webhook_public_key: text.optional(),
  }),
  twilio: z.strictObject({
    account_sid: z.string().regex(/^AC[0-9a-fA-F]{32}$/, "expected AC and 32 hexadecimal digits"),
    auth_token: text,
    /** A number in E.164, a short code, or a messaging service. */
    from: z
      .string()
      .regex(/^(?:\+[1-9]\d{6,14}|MG[0-9a-fA-F]{32}|\d{5,6})$/, "expected +15005550006, a short code or MG…"),
  }),
  stripe: z.strictObject({
    secret_key: text,
    /** Signing secret (whsec_…) of the account's webhook endpoint; several are separated by commas. */
    webhook_secret: text.optional(),
  }),
  slack: z.strictObject({
    webhook_url: z
      .string()
      .trim()
      .refine(isSlackWebhook, "expected https://hooks.slack.com/services/… as Slack shows it"),
  }),
  form: z.strictObject({ secret: z.string().startsWith("whsec_", "expected whsec_ and base64") }),
} as const;

export type CredentialProvider = keyof typeof credentialShapes;
export type Credential<P extends CredentialProvider> = z.infer<(typeof credentialShapes)[P]>;

/** The field whose last characters are shown as the credential's hint. */
const hintField: Readonly<Record<CredentialProvider, string>> = {
  sendgrid: "api_key",
  twilio: "account_sid",
  stripe: "secret_key",
  slack: "webhook_url",
  form: "secret",
};

/** The last four characters of the key, e.g. …x7Qa; "" for a key of fewer than 12 characters. */
export function hintOf(provider: CredentialProvider, credential: object): string {
  const key = Object.entries(credential).find(([name]) => name === hintField[provider])?.[1];
  return typeof key === "string" && key.length >= 12 ? `…${key.slice(-4)}` : "";
}
