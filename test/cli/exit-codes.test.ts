// Help, and the exit codes that scripts rely on: 0 success, 1 failure, 2 usage error, 78 invalid environment.
import { expect, test } from "vitest";
import { demoCommand } from "../../src/cli/demo.ts";
import { doctorCommand } from "../../src/cli/doctor.ts";
import { migrateCommand } from "../../src/cli/migrate.ts";
import { serveCommand } from "../../src/cli/serve.ts";
import { statusCommand } from "../../src/cli/status.ts";
import { tenantCommand } from "../../src/cli/tenant.ts";
import { upCommand } from "../../src/cli/up.ts";
import { brainops } from "./run.ts";

test("--help lists every command, on stdout", async () => {
  const { code, stdout, stderr } = await brainops(["--help"]);
  expect(code).toBe(0);
  expect(stderr).toBe("");
  for (const command of ["up", "migrate", "work", "serve", "demo", "doctor", "status", "tenant"]) {
    expect(stdout).toMatch(new RegExp(`^  ${command}\\b`, "m"));
  }
});

test("work --help describes its flags", async () => {
  const { code, stdout } = await brainops(["work", "--help"]);
  expect(code).toBe(0);
  for (const flag of ["--concurrency", "--tasks", "--crontab"]) expect(stdout).toContain(flag);
});

test.for([
  [upCommand, ["--pg-port", "--concurrency"]],
  [migrateCommand, ["DATABASE_URL"]],
  [serveCommand, ["PORT"]],
  [demoCommand, ["--database"]],
  [doctorCommand, ["--json"]],
  [statusCommand, ["--watch", "--json"]],
  [tenantCommand, ["create", "list", "login", "default"]],
] as const)("%o describes %j", ([command, expected]) => {
  const help = command().helpInformation();
  for (const text of expected) expect(help).toContain(text);
});

test.for([
  [["--nope"]],
  [["work", "--nope"]],
  [["work", "--concurrency", "0"]],
  [["migrate", "surplus"]],
  [["tenant"]],
  [["tenant", "create", "slug-without-name"]],
  [["tenant", "login", "a", "b", "--nope"]],
] as const)("%j is a usage error: exit code 2", async ([args]) => {
  const { code, stdout, stderr } = await brainops(args);
  expect(code).toBe(2);
  expect(stdout).toBe("");
  expect(stderr).not.toBe("");
});

test.for([
  [["migrate"]],
  [["work"]],
  [["status"]],
  [["tenant", "list"]],
  [["demo", "--database", "somewhere"]],
] as const)("%j without DATABASE_URL: exit code 78, and what to do", async ([args]) => {
  const { code, stdout, stderr } = await brainops(args);
  expect(code).toBe(78);
  expect(stdout).toBe("");
  expect(stderr).toContain("DATABASE_URL");
});

test.for([[["status"]], [["demo"]]] as const)(
  "%j with an invalid value: exit code 78 names the variable, not its value",
  async ([args]) => {
    const { code, stderr } = await brainops(args, { DATABASE_URL: "mysql://canary@db", PORT: "canary" });
    expect(code).toBe(78);
    expect(stderr).toContain("DATABASE_URL: ");
    expect(stderr).toContain("PORT: ");
    expect(stderr).not.toContain("canary");
  },
);

test("demo does not touch a database that --database does not name", async () => {
  const { code, stderr } = await brainops(["demo"], { DATABASE_URL: "postgres://user:canary@127.0.0.1:1/production" });
  expect(code).toBe(78);
  expect(stderr).toContain("--database");
  expect(stderr).not.toContain("canary");
});

test.for([[["migrate"]], [["tenant", "list"]]] as const)(
  "%j with an unreachable server: exit code 1, without the password",
  async ([args]) => {
    const { code, stdout, stderr } = await brainops(args, { DATABASE_URL: "postgres://user:canary@127.0.0.1:1/db" });
    expect(code).toBe(1);
    expect(stdout).toBe("");
    expect(stderr).toContain("ECONNREFUSED");
    expect(stderr).not.toContain("canary");
  },
);
