import { Command } from "commander";
import { loadConfig } from "../config.ts";
import { migrate } from "../db/migrate/index.ts";
import { requireDatabaseUrl } from "./database.ts";

export function migrateCommand(): Command {
  return new Command("migrate")
    .description("bring DATABASE_URL's schema up to date; several processes may run it at once")
    .action(async () => {
      const connectionString = requireDatabaseUrl(loadConfig());
      const report = await migrate({ connectionString, log: (line) => process.stderr.write(`${line}\n`) });
      process.stdout.write(
        report.applied.length === 0
          ? "nothing to do: the database is up to date\n"
          : `applied ${report.applied.length} migration(s)\n`,
      );
    });
}
