import { readFileSync } from "node:fs";
import { z } from "zod";

const shape = z.object({ version: z.string() });

/** The package's version, from src/cli and from dist/src/cli; "unknown" if package.json cannot be read. */
export const version = readVersion(["../../package.json", "../../../package.json"]);

function readVersion(paths: readonly string[]): string {
  for (const path of paths) {
    try {
      return shape.parse(JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8"))).version;
    } catch {
      // Tries the other path.
    }
  }
  return "unknown";
}
