// `brainops tenant credential …`: tenants' own accounts with providers. Secrets come in on stdin
// alone: a command line is in every process list and in the shell's history.
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
  // Before its subcommands are made: they inherit it.
  const credential = new Command("credential")
    .exitOverride()
    .description("tenants' own accounts with providers, encrypted with BRAINOPS_SECRET_KEY");
  credential
    .command("set <slug> <provider>")
    .description(
      'reads JSON from stdin: stripe {"secret_key", "webhook_secret"}, sendgrid {"api_key", "webhook_public_key"}, ' +
        'twilio {"account_sid", "auth_token", "from"}, slack {"webhook_url"}; prints where its webhooks go',
    )
    .option(
      "--new-key",
      "where the former BRAINOPS_SECRET_KEY is lost: gives the tenant a new key, and deletes what else was sealed with its old one",
      false,
    )
    .action(setCredential);
  credential.command("list <slug>").description("which there are; never what is secret").action(listCredentials);
  credential
    .command("remove <slug> <provider>")
    .description(
      "the tenant's rows go through the installation's account again. The keys are kept, encrypted: they verify what the " +
        "account still tells of (a refund, a STOP) and switch off payment links that were made through it",
    )
    .option("--erase", "deletes the keys too, at once or later; what the account tells is refused from then on", false)
    .action(removeCredential);
  credential
    .command("rekey")
    .description(
      "reads the former BRAINOPS_SECRET_KEY from stdin and goes over to the one in the environment. May be run again; " +
        "ends with 1 where a tenant's key was made with neither",
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
    lines.push(["deleted", `${deleted.join(", ")}: sealed with the lost key; write anew, endpoints change`]);
  process.stdout.write(lines.map(([name = "", value = ""]) => `${name.padEnd(10)}${value}\n`).join(""));
}

/** Where the account's webhooks are to be pointed. */
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
    process.stdout.write(`${slug} has no credentials of its own: it goes through the installation's accounts\n`);
    return;
  }
  const cells = rows.map((row) => [row.provider, row.name, row.hint, row.active ? "active" : "off", row.since]);
  process.stdout.write(table(["provider", "name", "key", "", "since (UTC)"], cells));
}

async function removeCredential(slug: string, provider: string, { erase }: { erase: boolean }): Promise<void> {
  const known = providerOf(provider);
  // Slack tells us nothing, and nothing is left to be done there.
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
      hint: "brainops tenant credential list",
    });
  process.stdout.write(
    `${slug} goes through the installation's ${known} account again\n` +
      (isKept
        ? "The keys are kept, encrypted, for what is still to come of the account; to delete them too: " +
          `brainops tenant credential remove ${slug} ${known} --erase\n`
        : ""),
  );
}

async function changeKey(): Promise<void> {
  const config = loadConfig();
  const { BRAINOPS_SECRET_KEY: to } = config;
  if (to === undefined) throw new ConfigError("BRAINOPS_SECRET_KEY is not set: it is the key to go over to.");
  const from = Buffer.from((await readAll(process.stdin)).trim(), "base64");
  if (from.length !== 32) {
    throw new BrainOpsError("OP037", "The former BRAINOPS_SECRET_KEY on stdin: expected 32 bytes in base64.");
  }
  const { count, left } = await withClient(requireDatabaseUrl(config), "tenant", async (client) => {
    await client.query("begin");
    const keys = await rekey(client, from, to);
    await client.query("commit");
    return keys;
  });
  process.stdout.write(`${count} tenant(s) went over to the new key\n`);
  if (left.length > 0) {
    const others = left.map((key) => `${key.slug} (${key.secret_key_id})`).join(", ");
    throw new BrainOpsError(
      "OP036",
      `Made with neither BRAINOPS_SECRET_KEY ${secretKeyId(from)} (stdin) nor ${secretKeyId(to)} (the environment): ${others}.`,
      {
        hint:
          "Run rekey again with the key that is named, on stdin; where it is lost, brainops tenant credential set " +
          "<slug> <provider> --new-key.",
      },
    );
  }
}

function providerOf(text: string): CredentialProvider {
  if (Object.hasOwn(credentialShapes, text) && text !== "form") return text as CredentialProvider;
  throw new BrainOpsError("OP007", `provider: ${JSON.stringify(text)} is none`, {
    hint: "Providers: sendgrid, twilio, stripe, slack.",
  });
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    // Not with the text: it holds a secret.
    throw new BrainOpsError("OP037", "stdin: expected a JSON object with the provider's fields.");
  }
}
