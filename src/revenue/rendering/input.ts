// Measures a task before it is posted: copying it into the thread takes time in the process, too.
import { LIMITS, limitError, shown } from "./limits.ts";
import type { BulkSource, Task } from "./tasks.ts";

/** UTF-16 units and values of a task without `source`, which is measured apart. Throws OP046 if it is too large. */
export function sizeOf(task: Task): number {
  switch (task.kind) {
    case "mail":
      return task.subject.length + task.body.length + measured([task.metadata, task.lead]);
    case "text":
      return task.body.length + measured([task.metadata, task.lead]);
    case "bulk":
      return 0;
    case "recipient":
      return measured([task.metadata, task.lead]);
    default:
      return task satisfies never;
  }
}

const sources = new WeakMap<BulkSource, number>();

/** The size of what the recipients of a broadcast share; measured once. Throws OP046 if it is too large. */
export function sizeOfSource(source: BulkSource): number {
  const known = sources.get(source);
  if (known !== undefined) return known;
  const size = source.subject.length + source.body.length + measured([source.metadata]);
  sources.set(source, size);
  return size;
}

/** Without recursion, since the values may be nested as deep as JSON can be. */
function measured(roots: readonly unknown[]): number {
  let characters = 0;
  let values = 0;
  let level: unknown[] = [...roots];
  for (let depth = 0; level.length > 0; depth += 1) {
    const next: unknown[] = [];
    for (const value of level) {
      values += 1;
      if (typeof value === "string") characters += value.length;
      else if (typeof value === "object" && value !== null) {
        for (const name of Object.keys(value)) characters += name.length;
        for (const inner of Object.values(value)) next.push(inner);
      }
    }
    if (values + next.length > LIMITS.inputValues) throw tooLarge(`${shown(LIMITS.inputValues)} values`);
    if (characters > LIMITS.inputCharacters) throw tooLarge(`${shown(LIMITS.inputCharacters)} characters`);
    if (depth > LIMITS.inputDepth) throw tooLarge(`${LIMITS.inputDepth} levels`);
    level = next;
  }
  return characters + values;
}

function tooLarge(limit: string): Error {
  return limitError("metadata and lead", "are too large", limit, "keep only what the template uses");
}
