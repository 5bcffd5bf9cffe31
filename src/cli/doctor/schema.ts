// Whether the database matches this release's sql/: its release, every file, and no other objects.
import type pg from "pg";
import {
  compareReleases,
  migrationDifferences,
  orphans,
  releaseProblem,
  storedRelease,
} from "../../db/migrate/index.ts";
import { version } from "../../version.ts";
import { bad, off, ok, type Finding } from "./finding.ts";

export async function release(client: pg.Client): Promise<Finding> {
  const stored = await storedRelease(client);
  const problem = releaseProblem(stored);
  if (problem !== null) return bad("release", problem.text);
  return ok("release", `${stored?.release}; programs of release ${stored?.oldestProgram} or newer may use it`);
}

/** A line for each file that differs, and for each object that no file creates. */
export async function schema(client: pg.Client): Promise<Finding[]> {
  const stored = (await storedRelease(client))?.release ?? version;
  if (compareReleases(stored, version) > 0) {
    return [off("schema", `migrated by release ${stored}, and this is ${version}; run doctor from release ${stored}`)];
  }
  const differences = await migrationDifferences(client);
  const findings = [
    ...differences.map((difference) => bad("schema", `${difference}; run \`brainops migrate\``)),
    ...(await orphans(client)).map((orphan) =>
      bad("schema", `${orphan} is not in sql/; drop it, or move it to a schema of your own`),
    ),
  ];
  return findings.length === 0 ? [ok("schema", "up to date")] : findings;
}
