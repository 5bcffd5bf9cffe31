// `brainops tenant credential …`: tenants' provider credentials. Secrets are read from stdin only: a
// command line is visible in process lists and in the shell's history.
import { text as readAll } from "node:stream/consumers";
import { Command } from "commander";
import { ConfigError, loadConfig, type Config } from "../config.ts";
import { BrainOpsError } from "../errors.ts";
import { secretKeyId } from "../revenue/credentials/envelope.ts";
import { credentialShapes, type CredentialProvider } from "../revenue/credentials/shapes.ts";
import { beginNewKey, rekey, saveCredential } from "../revenue/credentials/store.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { table } from "./terminal.ts";

export function credentialCommand(): Command {
  // exitOverride must precede the subcommands, which inherit it.
  const credential = new Command("credential")
    .exitOverride()
    .description("manage tenants' provider credentials, encrypted with BRAINOPS_SECRET_KEY");
  credential
    .command("set <slug> <provider>")
    .description(
      'store a credential, read as JSON from stdin: stripe {"secret_key", "webhook_secret"}, ' +
        'sendgrid {"api_key", "webhook_public_key"}, twilio {"account_sid", "auth_token", "from"}, ' +
        'slack {"webhook_url"}; prints the webhook URL to set at the provider',
    )
    .option(
      "--new-key",
      "if the former BRAINOPS_SECRET_KEY is lost: give the tenant a new key and delete its other credentials, which were sealed with the old one",
      false,
    )
    .action(setCredential);
  credential
    .command("list <slug>")
    .description("list a tenant's credentials, without their secrets")
    .action(listCredentials);
  credential
    .command("remove <slug> <provider>")
    .description(
      "deactivate a credential: the tenant's rows use the platform's account again. The keys are kept, encrypted: they " +
        "verify the account's later webhooks (a refund, a STOP) and deactivate payment links that it created",
    )
    .option(
      "--erase",
      "delete the keys too, now or after an earlier remove; the account's webhooks are refused from then on",
      false,
    )
    .action(removeCredential);
  credential
    .command("rekey")
    .description(
      "change BRAINOPS_SECRET_KEY: reads the former key from stdin; the new one is in the environment. Can be repeated; " +
        "exits with 1 if a tenant's key is encrypted with neither",
    )
    .action(changeKey);
  return credential;
}

async function setCredential(slug: string, provider: string, { newKey }: { newKey: boolean }): Promise<void> {
  const config = loadConfig();
  const known = providerOf(provider);
  const given = parseJson(await readAll(process.stdin));
  const { token, deleted } = await withClient(requireDatabaseUrl(config), "tenant", async (client) => {
    await client.query("begin");
    const { rows } = await client.query<{ id: string }>("select brainops_internal.tenant_id_of($1) as id", [slug]);
    const tenantId = rows[0]?.id ?? "";
    const place = { tenantId, provider: known };
    const lost = newKey ? await beginNewKey(client, config, place) : [];
    const saved = await saveCredential(client, config, place, given);
    await client.query("commit");
    return { token: saved, deleted: lost };
  });
  const lines = [["tenant", slug], ["provider", known], ...webhooksOf(known, token, config)];
  if (deleted.length > 0)
    lines.push(["deleted", `${deleted.join(", ")}: sealed with the lost key; set them again (their endpoints change)`]);
  process.stdout.write(lines.map(([name = "", value = ""]) => `${name.padEnd(10)}${value}\n`).join(""));
}

/** The webhook URLs to set at the provider. */
function webhooksOf(provider: CredentialProvider, token: string, config: Config): string[][] {
  const paths: Readonly<Record<CredentialProvider, readonly string[]>> = {
    sendgrid: [`webhooks/sendgrid/${token}`],
    stripe: [`webhooks/stripe/${token}`],
    twilio: [`webhooks/twilio/inbound/${token}`],
    slack: [],
    form: [],
  };
  return paths[provider].map((path) => ["webhook", new URL(path, config.PUBLIC_URL ?? "http://PUBLIC_URL").href]);
}

async function listCredentials(slug: string): Promise<void> {
  const rows = await withClient(requireDatabaseUrl(loadConfig()), "tenant", async (client) => {
    const result = await client.query<{ provider: string; name: string; hint: string; active: boolean; since: string }>(
      `select provider, name, hint, active, to_char(updated_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI') as since
       from public.provider_credentials where tenant_id = brainops_internal.tenant_id_of($1) order by provider, name`,
      [slug],
    );
    return result.rows;
  });
  if (rows.length === 0) {
    process.stdout.write(`${slug} has no credentials: it uses the platform's accounts\n`);
    return;
  }
  const cells = rows.map((row) => [row.provider, row.name, row.hint, row.active ? "active" : "inactive", row.since]);
  process.stdout.write(table(["provider", "name", "key", "", "since (UTC)"], cells));
}

async function removeCredential(slug: string, provider: string, { erase }: { erase: boolean }): Promise<void> {
  const known = providerOf(provider);
  // Slack has no webhooks to verify and nothing to deactivate later, so its credential is always deleted.
  const isKept = !erase && known !== "slack";
  const removed = await withClient(requireDatabaseUrl(loadConfig()), "tenant", async (client) => {
    const { rowCount } = await client.query(
      `${isKept ? "update public.provider_credentials set active = false" : "delete from public.provider_credentials"}
       where tenant_id = brainops_internal.tenant_id_of($1) and provider = $2 and name = 'default' ${isKept ? "and active" : ""}`,
      [slug, known],
    );
    return rowCount ?? 0;
  });
  if (removed === 0)
    throw new BrainOpsError("OP009", `${slug} has no ${isKept ? "active " : ""}${known} credential`, {
      hint: `List the tenant's credentials: brainops tenant credential list ${slug}`,
    });
  process.stdout.write(
    `${slug} uses the platform's ${known} account again\n` +
      (isKept
        ? "The keys are kept, encrypted, to verify later webhooks of the account. To delete them too: " +
          `brainops tenant credential remove ${slug} ${known} --erase\n`
        : ""),
  );
}

async function changeKey(): Promise<void> {
  const config = loadConfig();
  const { BRAINOPS_SECRET_KEY: to } = config;
  if (to === undefined) throw new ConfigError("BRAINOPS_SECRET_KEY is not set. Set it to the new key.");
  const from = Buffer.from((await readAll(process.stdin)).trim(), "base64");
  if (from.length !== 32) {
    throw new BrainOpsError("OP037", "stdin: expected the former BRAINOPS_SECRET_KEY, 32 bytes in base64.");
  }
  const { count, left } = await withClient(requireDatabaseUrl(config), "tenant", async (client) => {
    await client.query("begin");
    const keys = await rekey(client, from, to);
    await client.query("commit");
    return keys;
  });
  process.stdout.write(`${count} tenant key(s) now encrypted with the new BRAINOPS_SECRET_KEY\n`);
  if (left.length > 0) {
    const others = left.map((key) => `${key.slug} (${key.secret_key_id})`).join(", ");
    throw new BrainOpsError(
      "OP036",
      `Tenant keys that neither BRAINOPS_SECRET_KEY ${secretKeyId(from)} (stdin) nor ${secretKeyId(to)} (the environment) decrypts: ${others}.`,
      {
        hint:
          "Run rekey again with the named key on stdin. If that key is lost, set the credentials again: " +
          "brainops tenant credential set <slug> <provider> --new-key.",
      },
    );
  }
}

function providerOf(text: string): CredentialProvider {
  if (Object.hasOwn(credentialShapes, text) && text !== "form") return text as CredentialProvider;
  throw new BrainOpsError("OP007", `provider ${JSON.stringify(text)} does not exist`, {
    hint: "Providers: sendgrid, twilio, stripe, slack.",
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // The text is not part of the message: it contains a secret.
    throw new BrainOpsError("OP037", "stdin: expected a JSON object with the provider's fields.");
  }
}
