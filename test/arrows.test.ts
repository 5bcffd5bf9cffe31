// Imports in src/ and tasks/. Each folder may import from those that are listed, and from itself. Files must not
// import each other in a cycle.
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));

// "." is src/ itself: config.ts and errors.ts, which all may import, and index.ts.
const allowed: Readonly<Record<string, readonly string[]>> = {
  ".": ["jobs", "db", "telemetry"],
  telemetry: ["."],
  db: [".", "telemetry"],
  jobs: [".", "db", "telemetry"],
  // Only the types of outcomes, which a provider's errors are mapped to.
  providers: [".", "jobs"],
  revenue: [".", "jobs", "db", "providers"],
  simulator: ["."],
  http: [".", "db", "telemetry", "revenue"],
  tasks: [".", "jobs", "revenue"],
  cli: [".", "db", "jobs", "http", "simulator", "telemetry", "revenue"],
};

/** Paths of files, relative to the root. Imports of types count. */
interface Import {
  readonly file: string;
  readonly target: string;
}

function imports(): Import[] {
  return globSync(["src/**/*.ts", "tasks/*.ts"], { cwd: root }).flatMap((file) => {
    const found = readFileSync(join(root, file), "utf8").matchAll(/(?:from|import\(|import)\s*"(\.[^"]+)"/g);
    return [...found].map(([, target = ""]) => ({
      file,
      target: relative(root, resolve(root, dirname(file), target)),
    }));
  });
}

interface Arrow {
  readonly from: string;
  readonly to: string;
  readonly file: string;
}

function folderOf(file: string): string {
  const [first = "", second = ""] = file.split("/");
  if (first === "tasks") return "tasks";
  return second.endsWith(".ts") ? "." : second;
}

const arrows = (): Arrow[] =>
  imports().map(({ file, target }) => ({ from: folderOf(file), to: folderOf(target), file }));

/** A cycle as "a -> b -> a"; null without one. */
function findCycle(all: readonly Import[]): string | null {
  const targets = Map.groupBy(all, ({ file }) => file);
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (file: string): string | null => {
    if (path.includes(file)) return [...path.slice(path.indexOf(file)), file].join(" -> ");
    if (done.has(file)) return null;
    path.push(file);
    for (const { target } of targets.get(file) ?? []) {
      const cycle = visit(target);
      if (cycle !== null) return cycle;
    }
    path.pop();
    done.add(file);
    return null;
  };
  for (const file of targets.keys()) {
    const cycle = visit(file);
    if (cycle !== null) return cycle;
  }
  return null;
}

describe("imports between folders", () => {
  it("have only the allowed directions", () => {
    const found = arrows();
    expect(found.length).toBeGreaterThan(100);
    expect(found.filter(({ from, to }) => from !== to && allowed[from]?.includes(to) !== true)).toEqual([]);
  });

  it("are listed for every folder", () => {
    expect(new Set(arrows().map(({ from }) => from)).difference(new Set(Object.keys(allowed)))).toEqual(new Set());
  });
});

describe("imports between files", () => {
  it("form no cycle", () => {
    expect(findCycle(imports())).toBeNull();
  });

  it("include those of types, and a cycle is reported with its files", () => {
    const chain = (...files: string[]): Import[] =>
      files.slice(1).map((target, index) => ({ file: files[index] ?? "", target }));
    expect(findCycle([...chain("a", "b", "c"), ...chain("a", "c")])).toBeNull();
    expect(findCycle([...chain("a", "b", "c", "d"), ...chain("d", "b")])).toBe("b -> c -> d -> b");
    // types.ts is imported by `import type` only.
    expect(imports()).toContainEqual({ file: "src/jobs/store.ts", target: "src/jobs/types.ts" });
  });
});
