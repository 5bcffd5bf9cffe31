// Whether the database holds what this release's sql/ says: its release, and each file.
import type pg from "pg";
import { compareReleases, migrationDifferences, releaseProblem, storedRelease } from "../../db/migrate/index.ts";
import { version } from "../../version.ts";
import { bad, off, ok, type Finding } from "./finding.ts";

export async function release(client: pg.Client): Promise<Finding> {
  const stored = await storedRelease(client);
  const problem = releaseProblem(stored);
  if (problem !== null) return bad("release", problem.text);
  return ok("release", `${stored?.release}; programs of release ${stored?.oldestProgram} or newer may use it`);
}

/** A line for each file that differs. */
export async function schema(client: pg.Client): Promise<Finding[]> {
  const stored = (await storedRelease(client))?.release ?? version;
  if (compareReleases(stored, version) > 0) {
    return [off("schema", `migrated by release ${stored}, and this is ${version}; run doctor from release ${stored}`)];
  }
  const differences = await migrationDifferences(client);
  if (differences.length === 0) return [ok("schema", "up to date")];
  return differences.map((difference) => bad("schema", `${difference}; run \`brainops migrate\``));
}
