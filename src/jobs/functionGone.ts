// A worker stops if it is not compatible with the database any more: a function that it calls is missing
// (db/deployment.ts), or a contracting migration has raised oldest_program. Workers that are compatible take over its
// rows.
import type { TaskList } from "graphile-worker";
import { FunctionGoneError } from "../db/deployment.ts";
import { ProgramTooOldError } from "../db/migrate/release.ts";

export interface FunctionWatch {
  /** Resolves with the first FunctionGoneError or ProgramTooOldError that was reported; never rejects. */
  readonly gone: Promise<Error>;
  /** Why the worker cannot work, or null. */
  readonly problem: string | null;
  /** Takes any error, and ignores all but these two. */
  report(error: unknown): void;
  /** The same tasks; errors that they throw are reported here. */
  watch(tasks: TaskList): TaskList;
}

export function watchFunctions(): FunctionWatch {
  const { promise, resolve } = Promise.withResolvers<Error>();
  let problem: string | null = null;
  const report = (error: unknown): void => {
    if (!(error instanceof FunctionGoneError || error instanceof ProgramTooOldError)) return;
    problem ??= error.message;
    resolve(error);
  };
  const watched =
    (task: TaskList[string]): TaskList[string] =>
    async (payload, helpers) => {
      try {
        return await task?.(payload, helpers);
      } catch (error) {
        report(error);
        throw error;
      }
    };
  return {
    gone: promise,
    get problem() {
      return problem;
    },
    report,
    watch: (tasks) => Object.fromEntries(Object.entries(tasks).map(([name, task]) => [name, watched(task)])),
  };
}
