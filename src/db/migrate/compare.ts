// Whether the files of sql/ are what the database records as applied.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type pg from "pg";
import { indexesToBuild } from "./concurrent.ts";
import { migrationsDirectory, numberedNames, sqlFiles } from "./files.ts";
import { afterSet, appliedFiles, schemaSet, type NumberedSet } from "./numbered.ts";
import { repeatableSets, stateOf, type RepeatableSet } from "./repeatable.ts";
import { MigrationError, type Migration } from "./types.ts";

/** "before": files that can still be applied do not count as differences. "after": the database must be up to date. */
type When = "before" | "after";

/** Throws a MigrationError that names every difference. */
export async function compareWithFiles({ client, directory }: Migration, when: When): Promise<void> {
  const differences = await migrationDifferences(client, directory, when);
  if (differences.length === 0) return;
  throw new MigrationError(
    `The migrations in ${directory} differ from what was applied to the database:\n  ${differences.join("\n  ")}\n` +
      "An applied migration must not be changed: restore these files, and put the change into a new one.",
  );
}

/** One sentence for each difference between the files and what was applied. Empty if the database is up to date (or, with "before", can be brought up to date). */
export async function migrationDifferences(
  client: pg.Client,
  directory: string = migrationsDirectory,
  when: When = "after",
): Promise<string[]> {
  const numbered = [
    await numberedDifferences(client, directory, schemaSet, when),
    await numberedDifferences(client, directory, afterSet, when),
  ].flat();
  if (when === "before") return numbered;
  const repeatable: string[] = [];
  for (const set of repeatableSets) repeatable.push(...(await repeatableDifferences(client, directory, set)));
  return [...numbered, ...repeatable, ...(await notBuilt(client, directory))];
}

/** Numbered files must match what was applied in number, name and text, and each must be recorded once. */
async function numberedDifferences(
  client: pg.Client,
  directory: string,
  set: NumberedSet,
  when: When,
): Promise<string[]> {
  const folder = join(directory, set.prefix);
  const names = await numberedNames(folder);
  const applied = await appliedFiles(client, set);
  const last = applied.at(-1)?.index ?? 0;
  const differences: string[] = [];
  for (const name of names) {
    const index = Number.parseInt(name, 10);
    const script = await readFile(join(folder, name), "utf8");
    const rows = applied.filter((row) => row.index === index);
    if (rows.length === 0) {
      if (when === "after") differences.push(`${name} was not applied`);
      else if (index < last) differences.push(`${name} is new, but its number is below ${last}, which is applied`);
    } else if (rows.length > 1) differences.push(`${name} is recorded ${rows.length} times`);
    else if (rows[0]?.name !== name) differences.push(`${rows[0]?.name} was renamed to ${name} after it was applied`);
    else if (rows[0]?.script !== script) differences.push(`${name} was edited after it was applied`);
  }
  for (const row of applied) {
    if (!names.some((name) => Number.parseInt(name, 10) === row.index)) differences.push(`${row.name} is gone`);
  }
  return differences.map((difference) => `${set.prefix}${difference}`);
}

async function repeatableDifferences(client: pg.Client, directory: string, set: RepeatableSet): Promise<string[]> {
  const { added, edited, dropped, gone } = await stateOf(client, set, await sqlFiles(directory, set.folder));
  return [
    ...added.map(({ path }) => `${path} was not applied`),
    ...edited.map(({ path }) => `${path} differs from what was applied`),
    ...[...dropped].flatMap(([path, names]) => names.map((name) => `${name} of ${path} was dropped`)),
    ...gone.map((path) => `${path} is gone`),
  ];
}

async function notBuilt(client: pg.Client, directory: string): Promise<string[]> {
  return (await indexesToBuild(client, directory)).map(({ path }) => `${path} was not applied`);
}
