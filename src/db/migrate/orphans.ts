// Orphans: functions, views and triggers of ours in the database that no file of sql/ creates. An example is a
// signature that was replaced but not dropped: it is obsolete, but may still be granted and called.
import type pg from "pg";
import { catalogObjects } from "./catalog.ts";
import { definitionsIn, onAnyTable } from "./definitions.ts";
import { migrationsDirectory, sqlFiles } from "./files.ts";

/** The orphans in the database, each by its name in the catalog. */
export async function orphans(client: pg.Client, directory: string = migrationsDirectory): Promise<string[]> {
  const files = await sqlFiles(directory);
  return findOrphans(
    files.map(({ text }) => text),
    await catalogObjects(client),
  );
}

/** The names in the catalog that no text creates, in order. Views in public are left out, because they may belong to another application. */
export function findOrphans(texts: readonly string[], catalog: readonly string[]): string[] {
  const created = new Set(texts.flatMap(definitionsIn));
  return catalog
    .filter((name) => !created.has(name) && !created.has(onAnyTable(name)) && !name.startsWith("view public."))
    .toSorted();
}
