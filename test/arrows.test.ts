// Imports in src/ and tasks/. Between folders (design.md, "The house"), each may import from those listed, and from
// itself. Between files there are no cycles.
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

function roomOf(file: string): string {
  const [first = "", second = ""] = file.split("/");
  if (first === "tasks") return "tasks";
  return second.endsWith(".ts") ? "." : second;
}

const arrows = (): Arrow[] => imports().map(({ file, target }) => ({ from: roomOf(file), to: roomOf(target), file }));

/** A cycle as "a -> b -> a"; null if there is none. */
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

describe("imports between files", () => {
  it("form no cycle", () => {
    expect(findCycle(imports())).toBeNull();
  });

  it("are followed through types, and a cycle is named by its files", () => {
    const chain = (...files: string[]): Import[] =>
      files.slice(1).map((target, index) => ({ file: files[index] ?? "", target }));
    expect(findCycle([...chain("a", "b", "c"), ...chain("a", "c")])).toBeNull();
    expect(findCycle([...chain("a", "b", "c", "d"), ...chain("d", "b")])).toBe("b -> c -> d -> b");
    // types.ts is imported by `import type` alone.
    expect(imports()).toContainEqual({ file: "src/jobs/store.ts", target: "src/jobs/types.ts" });
  });
});
