// The migrated database as SQL, by pg_dump: the result of all migrations, for reading and comparing.
import { PGlite } from "@electric-sql/pglite";
import { vector } from "@electric-sql/pglite-pgvector";
import { pgDump } from "@electric-sql/pglite-tools/pg_dump";

const SCOPE = ["--schema=public", "--schema=brainops", "--schema=brainops_internal"];
// Monthly partitions, whose names depend on the day of the migration.
const MONTHS = "--exclude-table=brainops.*_20??_??";
const PREAMBLE = /^(?:--|SET |SELECT pg_catalog\.set_config|\\(?:un)?restrict)/;

/** Tables, functions, policies and grants of public and brainops, in pg_dump's order, without its comments. */
export async function dumpSchema(dataDir: Blob): Promise<string> {
  const pglite = await PGlite.create({ loadDataDir: dataDir, extensions: { vector } });
  try {
    const file = await pgDump({ pg: pglite, args: ["--schema-only", "--no-owner", ...SCOPE, MONTHS] });
    const lines = (await file.text()).split("\n").filter((line) => !PREAMBLE.test(line));
    return `${lines
      .join("\n")
      .replaceAll(/\n{3,}/g, "\n\n")
      .trim()}\n`;
  } finally {
    await pglite.close();
  }
}
