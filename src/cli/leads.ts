// `brainops leads …`: leads from files, and forms that send leads.
import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { BrainOpsError } from "../errors.ts";
import { beginNewKey } from "../revenue/credentials/store.ts";
import { saveForm } from "../revenue/leads/forms.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { importFile } from "./leadsImport.ts";

export function leadsCommand(): Command {
  // Before its subcommands are made: they inherit it.
  const leads = new Command("leads").exitOverride().description("leads from files and forms");
  leads
    .command("import <file>")
    .description(
      "a CSV file in UTF-8 whose first line names the columns (email, phone, contact_name, company_name, …); - is stdin. " +
        "May be run again: who is a lead already stays one. Ends with 1 where lines were rejected",
    )
    .requiredOption("--tenant <slug>", "whose leads they are")
    .option("--source <text>", "where leads come from whose line does not say", "import")
    .option("--delimiter <character>", "between two fields; \\t is a tab", ",")
    .option("--rejects <file>", "writes rejected lines there as CSV, with why: mend them and import that file")
    .action(importFile);
  leads
    .command("form <slug> <name>")
    .description("makes a form; prints where it posts to and, once, the secret that signs (Standard Webhooks)")
    .option("--source <text>", "source of its leads", "form")
    .option("--renew", "a new secret for a form that is there", false)
    .option(
      "--new-key",
      "where the former BRAINOPS_SECRET_KEY is lost: as with `brainops tenant credential set`",
      false,
    )
    .action(makeForm);
  return leads;
}

interface FormFlags {
  readonly source: string;
  readonly renew: boolean;
  readonly newKey: boolean;
}

async function makeForm(slug: string, name: string, { source, renew, newKey }: FormFlags): Promise<void> {
  const config = loadConfig();
  const { token, secret, deleted } = await withClient(requireDatabaseUrl(config), "leads", async (client) => {
    await client.query("begin");
    const { rows } = await client.query<{ id: string }>("select id from public.tenants where slug = $1", [slug]);
    const tenantId = rows[0]?.id;
    if (tenantId === undefined) {
      throw new BrainOpsError("OP009", `tenant: ${JSON.stringify(slug)} is none`, { hint: "brainops tenant list" });
    }
    const lost = newKey ? await beginNewKey(client, config, { tenantId, provider: "form", name }) : [];
    const saved = await saveForm(client, config, { tenantId, name, source, renew });
    await client.query("commit");
    return { ...saved, deleted: lost };
  });
  const endpoint = new URL(`forms/${token}`, config.PUBLIC_URL ?? "http://PUBLIC_URL").href;
  const lines = [
    ["tenant", slug],
    ["form", name],
    ["endpoint", endpoint],
    ["secret", secret],
  ];
  if (deleted.length > 0)
    lines.push(["deleted", `${deleted.join(", ")}: sealed with the lost key; write anew, endpoints change`]);
  process.stdout.write(lines.map(([label = "", value = ""]) => `${label.padEnd(10)}${value}\n`).join(""));
  process.stderr.write(
    "Keep the secret now: it is stored encrypted and not shown again. It signs on a server, never in a page.\n",
  );
}
