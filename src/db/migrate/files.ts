// Reads the files of sql/: the numbered ones, and those of a repeatable folder.
import { createHash } from "node:crypto";
import { readdir, readFile } from "node:fs/promises";
import { join, sep } from "node:path";
import { fileURLToPath } from "node:url";
import { codeOf } from "../../errors.ts";

/** sql/ of this installation, next to src/ (or dist/src/). */
export const migrationsDirectory = fileURLToPath(new URL("../../../sql", import.meta.url));

export interface SqlFile {
  /** Path below sql/, with slashes: functions/jobs/claim.sql. */
  readonly path: string;
  /** With line feeds as line ends, even if the checkout has others. */
  readonly text: string;
  /** Checksum of the text, in hexadecimal. */
  readonly sha256: string;
}

/** Names of NNNN-name.sql directly in a folder, in order; empty if the folder does not exist. */
export async function numberedNames(folder: string): Promise<string[]> {
  return (await entriesOf(folder, false)).filter((name) => /^\d+-.*\.sql$/.test(name)).toSorted();
}

/** Every .sql file in a folder of sql/ (or in all of it) and below, in path order; empty if the folder does not exist. */
export async function sqlFiles(directory: string, folder?: string): Promise<SqlFile[]> {
  const prefix = folder === undefined ? "" : `${folder}/`;
  const names = (await entriesOf(join(directory, prefix), true))
    .map((name) => `${prefix}${name.replaceAll(sep, "/")}`)
    .filter((path) => /(^|\/)[^_/][^/]*\.sql$/.test(path))
    .toSorted();
  return Promise.all(names.map((path) => sqlFile(directory, path)));
}

async function sqlFile(directory: string, path: string): Promise<SqlFile> {
  const text = (await readFile(join(directory, path), "utf8")).replaceAll(/\r\n?/g, "\n");
  return { path, text, sha256: createHash("sha256").update(text).digest("hex") };
}

async function entriesOf(folder: string, recursive: boolean): Promise<string[]> {
  try {
    return await readdir(folder, { recursive });
  } catch (error) {
    if (codeOf(error) === "ENOENT") return [];
    throw error;
  }
}
