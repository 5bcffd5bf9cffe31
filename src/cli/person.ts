// `brainops person …`: exports or erases a person's data, through the SQL interface.
import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { table } from "./terminal.ts";

export function personCommand(): Command {
  // exitOverride must precede the subcommands, which inherit it.
  const person = new Command("person").exitOverride().description("export or erase a person's data");
  person
    .command("export <slug> <address>")
    .description("print all data of the tenant about an e-mail address or phone number, as JSON by table")
    .action(exportPerson);
  person
    .command("forget <slug> <address>")
    .description("erase the person from all tables of the tenant; without --yes only lists the rows")
    .option("--yes", "erase; this cannot be undone", false)
    .action(forgetPerson);
  return person;
}

async function exportPerson(slug: string, address: string): Promise<void> {
  const held = Object.fromEntries(await heldOn(slug, address));
  process.stdout.write(`${JSON.stringify({ tenant: slug, address, held }, null, 2)}\n`);
}

async function forgetPerson(slug: string, address: string, flags: { readonly yes: boolean }): Promise<void> {
  if (!flags.yes) {
    const held = await heldOn(slug, address);
    if (held.size > 0) {
      process.stdout.write(
        table(
          ["table", "rows"],
          [...held].map(([name, rows]) => [name, rows.length]),
        ),
      );
    }
    process.stdout.write("Nothing has been erased. Give --yes to erase the data; this cannot be undone.\n");
    return;
  }
  const erased = await withClient(requireDatabaseUrl(loadConfig()), "person", async (client) => {
    const { rows } = await client.query<{ table_name: string; erased: string }>(
      "select table_name, erased from brainops.forget($1, $2) where erased > 0",
      [slug, address],
    );
    return rows;
  });
  if (erased.length > 0) {
    process.stdout.write(
      table(
        ["table", "erased"],
        erased.map((row) => [row.table_name, Number(row.erased)]),
      ),
    );
  }
  process.stdout.write("Only a digest of each address is kept, which prevents new messages to it.\n");
}

/** The person's rows, by table. */
async function heldOn(slug: string, address: string): Promise<Map<string, object[]>> {
  const rows = await withClient(requireDatabaseUrl(loadConfig()), "person", async (client) => {
    const result = await client.query<{ table_name: string; held: object }>(
      "select table_name, held from brainops.export_person($1, $2)",
      [slug, address],
    );
    return result.rows;
  });
  const byTable = new Map<string, object[]>();
  for (const { table_name: name, held } of rows) byTable.set(name, [...(byTable.get(name) ?? []), held]);
  return byTable;
}
