// `brainops doctor`: what is configured, reachable and missing, one line each. Never prints a secret's value.
import { Command } from "commander";
import { inspectEnvironment } from "../config.ts";
import { examineDatabase } from "./doctor/database.ts";
import { examineEnvironment } from "./doctor/environment.ts";
import { bad, type Finding } from "./doctor/finding.ts";
import { paint, printable, type Tone } from "./terminal.ts";

export function doctorCommand(): Command {
  return new Command("doctor")
    .description("check what is configured, reachable and missing; exits with 1 if something is bad")
    .option("--json", "for machines", false)
    .action(async (flags: { readonly json: boolean }) => {
      const findings = await examine();
      const healthy = findings.every(({ state }) => state !== "bad");
      process.stdout.write(flags.json ? `${JSON.stringify({ ok: healthy, findings })}\n` : render(findings));
      process.exitCode = healthy ? 0 : 1;
    });
}

async function examine(): Promise<Finding[]> {
  const { config, faults } = inspectEnvironment();
  const url = config.DATABASE_URL;
  const unset = [bad("DATABASE_URL", "not set; give postgres://user:password@host:5432/database")];
  const faulty = faults.some(({ variable }) => variable === "DATABASE_URL");
  const [environment, database] = await Promise.all([
    examineEnvironment(config, faults),
    url === undefined ? (faulty ? [] : unset) : examineDatabase(url),
  ]);
  return [...environment, ...database];
}

const tones = { ok: "good", off: "faint", bad: "bad" } as const satisfies Record<Finding["state"], Tone>;

function render(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ name }) => name.length));
  const lines = findings.map(
    ({ name, state, detail }) => `${paint(tones[state], state.padEnd(3))}  ${name.padEnd(width)}  ${printable(detail)}`,
  );
  const count = findings.filter(({ state }) => state === "bad").length;
  const verdict = count === 0 ? paint("good", "nothing is bad") : paint("bad", `${count} bad`);
  return `${lines.join("\n")}\n\n${verdict}\n`;
}
