// The arrows between the folders of src/ (design.md, "The house"): each may import from those
// listed, and from itself.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

// "." is src/ itself: config.ts and errors.ts, which everybody may read, and index.ts.
const allowed: Readonly<Record<string, readonly string[]>> = {
  ".": ["jobs", "db", "telemetry"],
  telemetry: ["."],
  db: [".", "telemetry"],
  jobs: [".", "db", "telemetry"],
  // Only what an outcome is: how a provider's errors are said.
  providers: [".", "jobs"],
  revenue: [".", "jobs", "db", "providers"],
  simulator: ["."],
  http: [".", "db", "telemetry", "revenue"],
  tasks: [".", "jobs", "revenue"],
  cli: [".", "db", "jobs", "http", "simulator", "telemetry", "revenue"],
};

interface Arrow {
  readonly from: string;
  readonly to: string;
  readonly file: string;
}

function roomOf(path: string): string {
  const [first = "", second = ""] = relative(root, path).split("/");
  if (first === "tasks") return "tasks";
  return second.endsWith(".ts") ? "." : second;
}

function arrows(): Arrow[] {
  return globSync(["src/**/*.ts", "tasks/*.ts"], { cwd: root }).flatMap((file) => {
    const path = join(root, file);
    const imports = readFileSync(path, "utf8").matchAll(/(?:from|import\()\s*"(\.[^"]+)"/g);
    return [...imports].map(([, target = ""]) => ({
      from: roomOf(path),
      to: roomOf(resolve(dirname(path), target)),
      file,
    }));
  });
}

describe("the arrows between folders", () => {
  it("point only where the house allows", () => {
    const found = arrows();
    expect(found.length).toBeGreaterThan(100);
    expect(found.filter(({ from, to }) => from !== to && allowed[from]?.includes(to) !== true)).toEqual([]);
  });

  it("know every folder", () => {
    expect(new Set(arrows().map(({ from }) => from)).difference(new Set(Object.keys(allowed)))).toEqual(new Set());
  });
});
