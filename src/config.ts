// Environment -> validated, typed configuration. The only reader of process.env.
import { z } from "zod";
import { isEmailAddress, splitMailbox } from "./emailAddress.ts";

const url = z.url({ protocol: /^https?$/, error: "expected an http or https URL" });
const secret = z.string().trim().min(1, "is set but empty; unset it or give a value");

/** All variables of the process. Secrets have no default; a missing one turns its provider off. */
const environment = z.object({
  DATABASE_URL: z
    .string()
    .regex(/^postgres(ql)?:\/\//, "expected postgres://user@host:port/database")
    .optional(),
  PORT: z.coerce.number().int().min(0).max(65_535).default(8080),
  HOST: z.string().default("127.0.0.1"),
  TRUSTED_PROXIES: z.coerce.number().int().min(0).max(10).default(0),
  PUBLIC_URL: url.optional(),
  LOG_LEVEL: z.enum(["trace", "debug", "info", "warn", "error", "silent"]).default("info"),
  SENDGRID_API_KEY: secret.optional(),
  SENDGRID_BASE_URL: url.default("https://api.sendgrid.com"),
  SENDGRID_WEBHOOK_PUBLIC_KEY: secret.optional(),
  MAIL_FROM: z
    .string()
    .refine((mailbox) => isEmailAddress(splitMailbox(mailbox).address), 'expected "name <address>" or an address')
    .optional(),
  TWILIO_ACCOUNT_SID: z
    .string()
    .regex(/^AC[0-9a-fA-F]{32}$/, "expected AC and 32 hexadecimal digits")
    .optional(),
  TWILIO_AUTH_TOKEN: secret.optional(),
  TWILIO_BASE_URL: url.default("https://api.twilio.com"),
  TWILIO_FROM: z
    .string()
    .regex(
      /^(?:\+[1-9]\d{6,14}|MG[0-9a-fA-F]{32}|\d{5,6})$/,
      "expected +15005550006, a short code, or a messaging service MG…",
    )
    .optional(),
  STRIPE_SECRET_KEY: secret.optional(),
  STRIPE_BASE_URL: url.default("https://api.stripe.com"),
  STRIPE_WEBHOOK_SECRET: secret.optional(),
  SLACK_BASE_URL: url.default("https://hooks.slack.com"),
  SLACK_WEBHOOK_URL: url.optional(),
  BRAINOPS_SECRET_KEY: z
    .string()
    .transform((text): Buffer => Buffer.from(text, "base64"))
    .refine((key) => key.length === 32, "expected 32 random bytes in base64: openssl rand -base64 32")
    .optional(),
  METRICS_TOKEN: secret.optional(),
});

export type Config = Readonly<z.infer<typeof environment>>;

/** The variables that a provider needs; the first one is its key. */
export const providerVariables = {
  sendgrid: ["SENDGRID_API_KEY", "MAIL_FROM"],
  twilio: ["TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN", "TWILIO_FROM"],
  stripe: ["STRIPE_SECRET_KEY"],
} as const satisfies Record<string, readonly (keyof Config)[]>;

export type Provider = keyof typeof providerVariables;

export class ConfigError extends Error {
  override name = "ConfigError";
}

/** A variable whose value can't be used; `problem` never contains the value. */
export interface ConfigFault {
  readonly variable: string;
  readonly problem: string;
}

/** Reads the environment; variables with an invalid value count as not set and are listed in `faults`. */
export function inspectEnvironment(env: NodeJS.ProcessEnv = process.env): { config: Config; faults: ConfigFault[] } {
  const parsed = environment.safeParse(env);
  if (parsed.success) return { config: Object.freeze(parsed.data), faults: [] };
  const faults = parsed.error.issues.map((issue) => ({ variable: issue.path.join("."), problem: issue.message }));
  const usable = { ...env };
  for (const { variable } of faults) delete usable[variable];
  return { config: Object.freeze(environment.parse(usable)), faults };
}

/** Reads the environment. Throws a ConfigError that names every invalid variable, never its value. */
export function loadConfig(env: NodeJS.ProcessEnv = process.env): Config {
  const { config, faults } = inspectEnvironment(env);
  if (faults.length === 0) return config;
  const lines = faults.map(({ variable, problem }) => `  ${variable}: ${problem}`);
  throw new ConfigError(`Invalid environment variables (${lines.length}):\n${lines.join("\n")}`);
}

/** The variables that must still be set to turn the provider on; empty when it is on. */
export function missingVariables(config: Config, provider: Provider): string[] {
  return providerVariables[provider].filter((name) => config[name] === undefined);
}
