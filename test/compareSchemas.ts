// Compares two dumps of a schema as sets of statements: the proof that a change of the files under sql/ changed
// only what its commit names.
//
//   node test/compareSchemas.ts before.sql after.sql [--comments] [--renames test/renames.txt]
//
// Statements are compared without regard to their order, and a table's columns without regard to theirs.
// --renames maps the old names of test/renames.txt to the new ones in the first dump. --comments leaves out what
// `comment on` says, comments within bodies of functions, and message texts (raise … using hint).
// Prints one line for each difference; exits with 1 if there are any.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { normalizedStatements, readRenames } from "./support/dump.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { comments: { type: "boolean", default: false }, renames: { type: "string" } },
});
const [beforePath = "", afterPath = ""] = positionals;
const renames = values.renames === undefined ? [] : readRenames(readFileSync(values.renames, "utf8"));
const before = normalizedStatements(readFileSync(beforePath, "utf8"), { renames, ignoreText: values.comments });
const after = normalizedStatements(readFileSync(afterPath, "utf8"), { renames: [], ignoreText: values.comments });

const onlyBefore = [...before].filter((statement) => !after.has(statement));
const onlyAfter = [...after].filter((statement) => !before.has(statement));
for (const statement of onlyBefore) process.stdout.write(`- ${statement.replaceAll("\n", "\n- ")}\n`);
for (const statement of onlyAfter) process.stdout.write(`+ ${statement.replaceAll("\n", "\n+ ")}\n`);
process.stdout.write(
  `${before.size} statements before, ${onlyBefore.length} only there; ${after.size} after, ${onlyAfter.length} only there\n`,
);
process.exitCode = onlyBefore.length + onlyAfter.length === 0 ? 0 : 1;
