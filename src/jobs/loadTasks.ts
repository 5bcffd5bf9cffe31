// Finds what tasks/ holds: one file, one task, named by its file. Reads our folder and any that
// people who run it add (--tasks).
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Job, Task } from "./define.ts";

/** tasks/ of this installation. */
const tasksDirectory = fileURLToPath(new URL("../../tasks", import.meta.url));

export type LoadedTask = Job | Task;

/**
 * Task name -> what its file exports by default. A later folder's file replaces an earlier one of
 * the same name. Throws an error that names the file.
 */
export async function loadTasks(extraDirectories: readonly string[] = []): Promise<Map<string, LoadedTask>> {
  const tasks = new Map<string, LoadedTask>();
  for (const directory of [tasksDirectory, ...extraDirectories.map((path) => resolve(path))]) {
    for (const file of await list(directory)) {
      const path = join(directory, file);
      const module = (await import(pathToFileURL(path).href)) as { default?: unknown };
      if (!isTask(module.default)) {
        throw new Error(`${path}: expected "export default defineJob({…})" or "export default defineTask(…)"`);
      }
      tasks.set(file.replace(/\.[^.]+$/, ""), module.default);
    }
  }
  return tasks;
}

async function list(directory: string): Promise<string[]> {
  try {
    const files = await readdir(directory);
    return files.filter((file) => /\.(ts|mts|js|mjs)$/.test(file) && !file.endsWith(".d.ts")).toSorted();
  } catch (error) {
    throw new Error(`no folder of tasks at ${directory}`, { cause: error });
  }
}

function isTask(value: unknown): value is LoadedTask {
  return (
    typeof value === "object" && value !== null && "kind" in value && (value.kind === "job" || value.kind === "task")
  );
}
