// `brainops leads …`: imports leads from files, and creates forms that submit leads.
import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { BrainOpsError } from "../errors.ts";
import { beginNewKey } from "../revenue/credentials/store.ts";
import { saveForm } from "../revenue/leads/forms.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { importFile } from "./leadsImport.ts";

export function leadsCommand(): Command {
  // exitOverride must precede the subcommands, which inherit it.
  const leads = new Command("leads").exitOverride().description("import leads, and create lead forms");
  const collect = (value: string, all: readonly string[]): readonly string[] => [...all, value];
  leads
    .command("import <file>")
    .description(
      "import a CSV file in UTF-8 whose first line names the columns (email, phone, contact_name, company_name, …); - is " +
        "stdin. Can be repeated: existing leads are updated, not duplicated. Exits with 1 if lines were rejected",
    )
    .requiredOption("--tenant <slug>", "tenant of the leads")
    .option("--source <text>", "source of leads whose line has no source", "import")
    .option("--delimiter <character>", "separator of fields; \\t is a tab, auto finds it in the first line", "auto")
    .option(
      "--map <heading=column>",
      "read a column of the file as this column of a lead, as metadata.<key>, or not at all (-); may be given more than once",
      collect,
      [],
    )
    .option("--dry-run", "report what would be imported, and store nothing", false)
    .option(
      "--rejects <file>",
      "write rejected and incomplete lines to this CSV file with the reason; correct it and import it",
    )
    .action(importFile);
  leads
    .command("form <slug> <name>")
    .description("create a form; prints its endpoint and, once, the secret that signs submissions (Standard Webhooks)")
    .option("--source <text>", "source of its leads", "form")
    .option("--renew", "give an existing form a new secret", false)
    .option(
      "--new-key",
      "if the former BRAINOPS_SECRET_KEY is lost: same as for `brainops tenant credential set`",
      false,
    )
    .action(createForm);
  return leads;
}

interface FormFlags {
  readonly source: string;
  readonly renew: boolean;
  readonly newKey: boolean;
}

async function createForm(slug: string, name: string, { source, renew, newKey }: FormFlags): Promise<void> {
  const config = loadConfig();
  const { token, secret, deleted } = await withClient(requireDatabaseUrl(config), "leads", async (client) => {
    await client.query("begin");
    const { rows } = await client.query<{ id: string }>("select id from public.tenants where slug = $1", [slug]);
    const tenantId = rows[0]?.id;
    if (tenantId === undefined) {
      throw new BrainOpsError("OP009", `tenant ${JSON.stringify(slug)} does not exist`, {
        hint: "List the tenants: brainops tenant list",
      });
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
    lines.push(["deleted", `${deleted.join(", ")}: sealed with the lost key; set them again (their endpoints change)`]);
  process.stdout.write(lines.map(([label = "", value = ""]) => `${label.padEnd(10)}${value}\n`).join(""));
  process.stderr.write(
    "Save the secret now: it is stored encrypted and not shown again. Sign on a server with it, never in a web page.\n",
  );
}
