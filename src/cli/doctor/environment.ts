// What the environment says, and whether what it names can be reached. Of secrets only whether they are set.
import { createPublicKey } from "node:crypto";
import type { Config, ConfigFault } from "../../config.ts";
import { codeOf, messageOf } from "../../errors.ts";
import { bad, off, ok, type Finding } from "./finding.ts";

const REACH_MS = 3000;

export async function examineEnvironment(config: Config, faults: readonly ConfigFault[]): Promise<Finding[]> {
  return [
    ok("Node", process.versions.node),
    ...faults.map(({ variable, problem }) => bad(variable, problem)),
    mailFrom(config),
    await sendgrid(config),
    webhookKey(config),
    publicUrl(config),
    metricsToken(config),
  ];
}

async function sendgrid(config: Config): Promise<Finding> {
  const name = "SendGrid";
  if (config.SENDGRID_API_KEY === undefined) {
    return off(name, "SENDGRID_API_KEY is not set: mails wait as pending until it is");
  }
  const place = new URL(config.SENDGRID_BASE_URL).host;
  try {
    // No key goes along: any answer at all shows that it is there.
    const answer = await fetch(config.SENDGRID_BASE_URL, {
      method: "HEAD",
      redirect: "manual",
      signal: AbortSignal.timeout(REACH_MS),
    });
    return ok(name, `SENDGRID_API_KEY is set; ${place} is reachable (answered ${answer.status})`);
  } catch (error) {
    const cause = error instanceof Error && error.cause !== undefined ? error.cause : error;
    return bad(name, `${place} is out of reach: ${codeOf(cause) ?? messageOf(cause)}`);
  }
}

function webhookKey(config: Config): Finding {
  const name = "SENDGRID_WEBHOOK_PUBLIC_KEY";
  const value = config.SENDGRID_WEBHOOK_PUBLIC_KEY;
  if (value === undefined) {
    const consequence = "deliveries and bounces are not heard of, unconfirmed mails wait for a person";
    return off(name, `not set: ${consequence}`);
  }
  try {
    const key = createPublicKey({ key: Buffer.from(value, "base64"), format: "der", type: "spki" });
    if (key.asymmetricKeyType === "ec") return ok(name, "is an elliptic-curve public key");
    return bad(name, `is a key of type ${key.asymmetricKeyType}; expected an elliptic-curve one`);
  } catch {
    return bad(name, "is no public key; copy the verification key of SendGrid's event webhook settings (base64)");
  }
}

function mailFrom(config: Config): Finding {
  if (config.MAIL_FROM !== undefined) return ok("MAIL_FROM", config.MAIL_FROM);
  return off("MAIL_FROM", "not set: mails wait as pending until it is");
}

function publicUrl(config: Config): Finding {
  const name = "PUBLIC_URL";
  if (config.PUBLIC_URL === undefined) {
    return off(name, "not set: marketing mails wait, for they need an unsubscribe link");
  }
  const { protocol, origin, hostname } = new URL(config.PUBLIC_URL);
  if (protocol === "https:") return ok(name, origin);
  if (/^(localhost|127\.|\[::1\])/.test(hostname)) return off(name, `${origin}: on this machine alone, for a trial`);
  return bad(name, `${origin}: unsubscribe links must be https (RFC 8058)`);
}

function metricsToken(config: Config): Finding {
  if (config.METRICS_TOKEN === undefined) return off("METRICS_TOKEN", "not set");
  return ok("METRICS_TOKEN", "is set");
}
