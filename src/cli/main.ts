// Parses the command line; each command has its own file. Exit codes: 0 success, 1 failure, 2 wrong usage,
// 78 invalid environment (sysexits EX_CONFIG).
import { Command, CommanderError } from "commander";
import { ConfigError } from "../config.ts";
import { BrainOpsError, messageOf } from "../errors.ts";
import { demoCommand } from "./demo.ts";
import { doctorCommand } from "./doctor.ts";
import { leadsCommand } from "./leads.ts";
import { migrateCommand } from "./migrate.ts";
import { personCommand } from "./person.ts";
import { serveCommand } from "./serve.ts";
import { statusCommand } from "./status.ts";
import { tenantCommand } from "./tenant.ts";
import { upCommand } from "./up.ts";
import { version } from "./version.ts";
import { workCommand } from "./work.ts";

export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("brainops")
    .description("Revenue and AI operations from inside your own Postgres: insert a row, and the work happens once.")
    .version(version)
    .showHelpAfterError("(brainops --help lists the commands)")
    .exitOverride()
    .addHelpText("after", "\nWithout DATABASE_URL, up and demo start the built-in Postgres under .brainops/.");
  for (const command of [
    upCommand(),
    migrateCommand(),
    workCommand(),
    serveCommand(),
    demoCommand(),
    doctorCommand(),
    statusCommand(),
    tenantCommand(),
    personCommand(),
    leadsCommand(),
  ]) {
    program.addCommand(command.exitOverride());
  }
  try {
    await program.parseAsync([...argv]);
  } catch (error) {
    process.exitCode = report(error);
  }
}

function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  const hint = error instanceof BrainOpsError ? `\n${error.hint}` : "";
  process.stderr.write(`brainops: ${messageOf(error)}${hint}\n`);
  return error instanceof ConfigError ? 78 : 1;
}
