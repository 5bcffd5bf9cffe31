// What the environment sets, and whether the providers can be reached. Reports of a secret only whether it is set.
import { createPublicKey } from "node:crypto";
import { missingVariables, providerVariables, type Config, type ConfigFault, type Provider } from "../../config.ts";
import { codeOf, messageOf } from "../../errors.ts";
import { bad, off, ok, type Finding } from "./finding.ts";

const REACH_MS = 3000;

export async function examineEnvironment(config: Config, faults: readonly ConfigFault[]): Promise<Finding[]> {
  return [
    ok("Node", process.versions.node),
    ...faults.map(({ variable, problem }) => bad(variable, problem)),
    mailFrom(config),
    await reach(config, "SendGrid", "sendgrid", config.SENDGRID_BASE_URL, "mails"),
    webhookKey(config),
    await reach(config, "Twilio", "twilio", config.TWILIO_BASE_URL, "texts"),
    await reach(config, "Stripe", "stripe", config.STRIPE_BASE_URL, "payment requests"),
    setOrNot(config, "STRIPE_WEBHOOK_SECRET", "Stripe's events are refused, so payments are not recorded"),
    setOrNot(config, "BRAINOPS_SECRET_KEY", "tenants cannot have provider accounts of their own"),
    publicUrl(config),
    setOrNot(config, "METRICS_TOKEN", "/metrics answers 503"),
  ];
}

/** Whether a provider's variables are set and its API is reachable. */
async function reach(
  config: Config,
  name: string,
  provider: Provider,
  baseUrl: string,
  rows: string,
): Promise<Finding> {
  const missing = missingVariables(config, provider);
  const [key] = providerVariables[provider];
  if (config[key] === undefined) {
    const [variables, verb] = [missing.join(", "), missing.length === 1 ? "is" : "are"];
    return off(
      name,
      `${variables} ${verb} not set: ${rows} wait as pending, except those of tenants with an account of their own`,
    );
  }
  const place = new URL(baseUrl).host;
  try {
    // Sent without the key: any response shows that the API is reachable.
    const answer = await fetch(baseUrl, {
      method: "HEAD",
      redirect: "manual",
      signal: AbortSignal.timeout(REACH_MS),
    });
    return ok(name, `its variables are set; ${place} is reachable (answered ${answer.status})`);
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return bad(name, `${place} is unreachable: ${codeOf(cause) ?? messageOf(cause)}`);
  }
}

function webhookKey(config: Config): Finding {
  const name = "SENDGRID_WEBHOOK_PUBLIC_KEY";
  const value = config.SENDGRID_WEBHOOK_PUBLIC_KEY;
  if (value === undefined) {
    const consequence =
      "SendGrid's events are refused: deliveries and bounces are not recorded, and unconfirmed mails wait for a person";
    return off(name, `not set: ${consequence}`);
  }
  try {
    const key = createPublicKey({ key: Buffer.from(value, "base64"), format: "der", type: "spki" });
    if (key.asymmetricKeyType === "ec") return ok(name, "is an elliptic-curve public key");
    return bad(name, `is a key of type ${key.asymmetricKeyType}; expected an elliptic-curve key`);
  } catch {
    return bad(name, "is not a public key; copy the verification key of SendGrid's event webhook settings (base64)");
  }
}

function mailFrom(config: Config): Finding {
  if (config.MAIL_FROM !== undefined) return ok("MAIL_FROM", config.MAIL_FROM);
  return off("MAIL_FROM", "not set: mails wait as pending");
}

function publicUrl(config: Config): Finding {
  const name = "PUBLIC_URL";
  if (config.PUBLIC_URL === undefined) {
    return off(name, "not set: marketing mails wait, because they need an unsubscribe link");
  }
  const { protocol, origin, hostname } = new URL(config.PUBLIC_URL);
  if (protocol === "https:") return ok(name, origin);
  if (/^(localhost|127\.|\[::1\])/.test(hostname))
    return off(name, `${origin}: only reachable on this machine, for a trial`);
  return bad(name, `${origin}: unsubscribe links must use https (RFC 8058)`);
}

function setOrNot(config: Config, name: keyof Config, consequence: string): Finding {
  return config[name] === undefined ? off(name, `not set: ${consequence}`) : ok(name, "is set");
}
