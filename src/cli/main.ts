// Parses the command line and runs the command, which has a file of its own. Exit codes are listed below; 65 and 78 are
// EX_DATAERR and EX_CONFIG of sysexits.h.
import { Command, CommanderError } from "commander";
import { ConfigError } from "../config.ts";
import { FunctionGoneError } from "../db/deployment.ts";
import { ForeignTablesError, ProgramTooOldError } from "../db/migrate/index.ts";
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
import { version } from "../version.ts";
import { workCommand } from "./work.ts";

const help = `
Without DATABASE_URL, up and demo start the built-in Postgres under .brainops/.

Exit codes:
  0   done
  1   failed
  2   wrong usage: unknown command or option
  65  this program is not compatible with the database: it is too old for it, or functions that it calls are missing
  78  unsuitable environment or database: a variable, or tables of another application under names that BrainOps needs`;

export async function main(argv: readonly string[]): Promise<void> {
  const program = new Command("brainops")
    .description("Revenue and AI operations from inside your own Postgres: insert a row, and the work happens once.")
    .version(version)
    .showHelpAfterError("(brainops --help lists the commands)")
    .exitOverride()
    .addHelpText("after", help);
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
  if (error instanceof ProgramTooOldError || error instanceof FunctionGoneError) return 65;
  return error instanceof ConfigError || error instanceof ForeignTablesError ? 78 : 1;
}
