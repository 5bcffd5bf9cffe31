import { readFileSync } from "node:fs";
import { z } from "zod";

const shape = z.object({ version: z.string() });

/** The package's version, which is also its release. Works from src/ and from dist/src/. */
export const version = readVersion(["../package.json", "../../package.json"]);

function readVersion(paths: readonly string[]): string {
  for (const path of paths) {
    try {
      return shape.parse(JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"))).version;
    } catch {
      // Not here: tries the next path.
    }
  }
  throw new Error("The package.json of brainops is missing; reinstall the package.");
}
