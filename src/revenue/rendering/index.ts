// Rendering of what tenants write, in the rendering thread of this process. Nothing else in the process may parse
// tenants' Liquid or HTML.
import { createHmac, randomBytes } from "node:crypto";
import { Renderer } from "./renderer.ts";
import type { BulkSource, Results, Task } from "./tasks.ts";

const renderer = new Renderer();

/**
 * Renders a task of the tenant. Throws what makes the row fail (OP046 at a limit), or an OutcomeError if the row has to
 * wait. `now` is the engine's clock (JobContext).
 */
export function render<Kind extends Task["kind"]>(
  tenantId: string,
  task: Extract<Task, { kind: Kind }>,
  now: () => Date,
): Promise<Results[Kind]> {
  return renderer.render<Kind>(tenantId, task, now);
}

const key = randomBytes(32);

/**
 * Twelve digits for the tags of a broadcast's template. The same content has the same tags in this process, and nobody
 * who writes a template or a value can know them.
 */
export function nonceOf({ subject, body }: Pick<BulkSource, "subject" | "body">): string {
  const digest = createHmac("sha256", key)
    .update(JSON.stringify([subject, body]))
    .digest();
  return String(100_000_000_000 + (digest.readUIntBE(0, 6) % 900_000_000_000));
}
