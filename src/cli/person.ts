// `brainops person …`: what a tenant holds on somebody, and its erasure, over the SQL interface.
import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { requireDatabaseUrl, withClient } from "./database.ts";
import { table } from "./terminal.ts";

export function personCommand(): Command {
  // Before its subcommands are made: they inherit it.
  const person = new Command("person").exitOverride().description("export or erase what is held on a person");
  person
    .command("export <slug> <address>")
    .description("everything the tenant holds on an e-mail address or phone number, as JSON by table")
    .action(exportPerson);
  person
    .command("forget <slug> <address>")
    .description("erases the person from every table of the tenant; without --yes only says what is held")
    .option("--yes", "do it; there is no way back", false)
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
    process.stdout.write("Nothing has been erased. Give --yes to erase it; there is no way back.\n");
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
  process.stdout.write("What is left is a digest of each address, which stops new messages to it.\n");
}

/** Rows by table. */
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
