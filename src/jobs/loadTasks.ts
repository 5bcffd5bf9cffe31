// Loads the files of tasks/: one file, one task, named by its file. Reads this installation's
// folder, and folders that its operators add (--tasks).
import { readdir } from "node:fs/promises";
import { join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { Job, Task } from "./define.ts";

/** tasks/ of this installation. */
const tasksDirectory = fileURLToPath(new URL("../../tasks", import.meta.url));

export type LoadedTask = Job | Task;

/**
 * Task name -> the default export of its file. A file in a later folder replaces one with the same name in an earlier
 * folder. Throws an error that names the folder that does not exist, or the file that exports something else.
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
    throw new Error(`cannot read the task folder ${directory}`, { cause: error });
  }
}

function isTask(value: unknown): value is LoadedTask {
  return (
    typeof value === "object" && value !== null && "kind" in value && (value.kind === "job" || value.kind === "task")
  );
}
