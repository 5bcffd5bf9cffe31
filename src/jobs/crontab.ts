// The crontab of a worker. graphile-worker queues a job for any task name, and a job whose task nobody has waits
// for ever without a trace; so a name that this installation does not have is refused at the start.
import { parseCrontab } from "graphile-worker";
import type { LoadedTask } from "./loadTasks.ts";

/** Throws an error that names the lines' tasks that do not exist, and those that do. Lines that do not parse throw too. */
export function requireKnownTasks(crontab: string, tasks: ReadonlyMap<string, LoadedTask>): void {
  const unknown = new Set(parseCrontab(crontab).flatMap(({ task }) => (tasks.has(task) ? [] : [task])));
  if (unknown.size === 0) return;
  throw new Error(
    `crontab: no task is named ${[...unknown].join(", ")}. Tasks: ${[...tasks.keys()].toSorted().join(", ")}. ` +
      "A folder of your own tasks is added with --tasks.",
  );
}
