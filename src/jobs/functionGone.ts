// A worker stops if a function that it calls is missing (db/deployment.ts): workers that are compatible with the
// database take over its rows.
import type { TaskList } from "graphile-worker";
import { FunctionGoneError } from "../db/deployment.ts";

export interface FunctionWatch {
  /** Resolves with the first FunctionGoneError that was reported; never rejects. */
  readonly gone: Promise<FunctionGoneError>;
  /** Why the worker cannot work, or null. */
  readonly problem: string | null;
  /** Takes any error, and ignores all but a FunctionGoneError. */
  report(error: unknown): void;
  /** The same tasks; errors that they throw are reported here. */
  watch(tasks: TaskList): TaskList;
}

export function watchFunctions(): FunctionWatch {
  const { promise, resolve } = Promise.withResolvers<FunctionGoneError>();
  let problem: string | null = null;
  const report = (error: unknown): void => {
    if (!(error instanceof FunctionGoneError)) return;
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
