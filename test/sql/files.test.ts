// What every file of sql/ must say and must not do.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { sqlFiles } from "../../src/db/migrate/files.ts";
import { migrationsDirectory } from "../../src/db/migrate/index.ts";
import { withoutComments } from "../../src/db/migrate/sqlText.ts";

/** What is wrong with the Compatibility line of a numbered file, or null. */
function compatibilityProblem(text: string): string | null {
  const [header = ""] = /^(?:--[^\n]*\n|\s*\n)*/.exec(text) ?? [];
  const lines = [...header.matchAll(/^-- Compatibility: (.*)$/gm)].map(([, value = ""]) => value);
  const [line = ""] = lines;
  if (lines.length !== 1) return `has ${lines.length} lines "-- Compatibility: …" in its header, expected one`;
  const raised = /update brainops\.release set oldest_program = '([^']*)'/.exec(withoutComments(text))?.[1];
  if (/^rolling; \S/.test(line)) return raised === undefined ? null : "is rolling, but raises oldest_program";
  const oldest = /^contract; programs before (\d+\.\d+\.\d+) must have stopped\.$/.exec(line)?.[1];
  if (oldest === undefined) {
    return "expected rolling; and why, or contract; programs before X.Y.Z must have stopped.";
  }
  if (raised !== oldest) return `does not set brainops.release.oldest_program to '${oldest}'`;
  return null;
}

/** Transaction control outside strings and bodies: migrate owns the transaction of each file. */
function transactionControl(text: string): string | null {
  const plain = withoutComments(text).replaceAll(/\$(\w*)\$[\s\S]*?\$\1\$|'[^']*'/g, "''");
  return /(?:^|;)\s*((?:begin|commit|rollback|start\s+transaction|savepoint)\b[^;]*;)/i.exec(plain)?.[1] ?? null;
}

const isNumbered = (path: string): boolean => /^(?:after\/)?\d+-/.test(path);

describe("files of sql/", () => {
  it("say in the header of each numbered file what happens to running programs", async () => {
    const numbered = (await sqlFiles(migrationsDirectory)).filter(({ path }) => isNumbered(path));
    expect(numbered.length).toBeGreaterThan(0);
    const problems = numbered.flatMap(({ path, text }) => {
      const problem = compatibilityProblem(text);
      return problem === null ? [] : [`${path}: ${problem}`];
    });
    expect(problems).toEqual([]);
  });

  // migrate compares numbered files with what it applied, byte by byte. .gitattributes keeps git from changing them.
  it("end their lines with line feeds, whatever git is configured to do", async () => {
    const names = (await sqlFiles(migrationsDirectory)).map(({ path }) => join(migrationsDirectory, path));
    const texts = await Promise.all(names.map(async (name) => ({ name, text: await readFile(name, "utf8") })));
    expect(texts.filter(({ text }) => text.includes("\r")).map(({ name }) => name)).toEqual([]);
    const attributes = await readFile(join(migrationsDirectory, "../.gitattributes"), "utf8");
    expect(attributes).toMatch(/^sql\/\*\*\/\*\.sql text eol=lf$/m);
  });

  it("leave transactions to migrate", async () => {
    const found = (await sqlFiles(migrationsDirectory)).flatMap(({ path, text }) => {
      const statement = transactionControl(text);
      return statement === null ? [] : [`${path}: ${statement}`];
    });
    expect(found).toEqual([]);
  });
});

describe("the check of the Compatibility line", () => {
  const update = "update brainops.release set oldest_program = '0.3.0';\n";
  it.each([
    ["-- Drops a column.\n-- Compatibility: rolling; adds a column with a default.\nselect 1;\n"],
    [`-- Compatibility: contract; programs before 0.3.0 must have stopped.\n\n${update}`],
  ])("accepts %j", (text) => expect(compatibilityProblem(text)).toBeNull());

  it.each([
    ["-- Drops a column.\nselect 1;\n", /has 0 lines/],
    ["select 1;\n-- Compatibility: rolling; too late\n", /has 0 lines/],
    ["-- Compatibility: rolling; a\n-- Compatibility: rolling; b\n", /has 2 lines/],
    ["-- Compatibility: rolling\n", /expected rolling; and why/],
    ["-- Compatibility: breaks\n", /expected rolling; and why/],
    ["-- Compatibility: contract; old programs must have stopped.\n", /expected rolling; and why/],
    [
      "-- Compatibility: contract; programs before 0.3.0 must have stopped.\nselect 1;\n",
      /does not set .* to '0\.3\.0'/,
    ],
    [`-- Compatibility: contract; programs before 0.4.0 must have stopped.\n${update}`, /does not set .* to '0\.4\.0'/],
    [`-- Compatibility: rolling; adds a column.\n${update}`, /is rolling, but raises/],
  ])("refuses %j", (text, problem) => expect(compatibilityProblem(text)).toMatch(problem));
});

describe("the check of transaction control", () => {
  it.each([
    "begin;\nselect 1;",
    "select 1;\ncommit;",
    "  ROLLBACK ;",
    "start transaction isolation level serializable;",
  ])("finds it in %j", (text) => expect(transactionControl(text)).not.toBeNull());

  it.each([
    "do $$\nbegin\n  perform 1;\nend;\n$$;",
    "-- commit;\nselect 'x\ncommit;';",
    "create function f() returns void language plpgsql as $body$\nbegin\n  null;\nend;\n$body$;",
  ])("does not take %j for it", (text) => expect(transactionControl(text)).toBeNull());
});
