// Foreign tables: tables of another application with names that BrainOps needs. A database that is shared with such an
// application may have an ai_email_queue or revenue_leads of its own, which a migration must not touch.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type pg from "pg";
import { numberedNames, sqlFiles } from "./files.ts";
import { appliedFiles, schemaSet } from "./numbered.ts";
import { recordedFiles, viewSet } from "./repeatable.ts";
import { withoutComments } from "./sqlText.ts";
import { MigrationError, type Migration } from "./types.ts";

// Tables of the contract that later releases create.
const CONTRACT = [
  "ai_agents",
  "agent_schedules",
  "ai_autonomous_tasks",
  "ai_agent_executions",
  "ai_approvals",
  "ai_thought_stream",
  "unified_ai_memory",
  "unified_ai_memory_embeddings",
  "live_brain_memories",
  "orchestrator_commands",
  "integration_requests",
];

/** The database has tables of another application under names that BrainOps needs. */
export class ForeignTablesError extends MigrationError {
  override name = "ForeignTablesError";
}

/** Throws a ForeignTablesError that lists all foreign tables. Changes nothing. */
export async function refuseForeignTables({ client, directory }: Migration): Promise<void> {
  const ours = await createdByUs(client);
  const wanted = (await createdByFiles(client, directory)).filter((name) => !ours.has(name));
  const { rows } = await client.query<{ name: string; database: string }>(
    `select relname as name, current_database() as database from pg_class
     where relnamespace = to_regnamespace('public') and relkind in ('r', 'p', 'f', 'v', 'm') and relname = any ($1)
     order by relname`,
    [wanted],
  );
  if (rows.length === 0) return;
  throw new ForeignTablesError(
    `The database ${rows[0]?.database} has tables that BrainOps did not create, under names that it needs:\n` +
      `${rows.map(({ name }) => `  public.${name}\n`).join("")}` +
      "Nothing was changed. Give BrainOps a database of its own, or rename these tables or move them to another " +
      "schema (alter table … set schema …), then run migrate again.",
  );
}

/** Tables and views in public that a text creates. */
function createdBy(text: string): string[] {
  const creation =
    /\bcreate\s+(?:or\s+replace\s+)?(?:table|(?:materialized\s+)?view)\s+(?:if\s+not\s+exists\s+)?public\.(\w+)/gi;
  return [...withoutComments(text).matchAll(creation)].map(([, name = ""]) => name.toLowerCase());
}

/** Tables and views that applied files created, by their recorded text, including files of a later release. */
async function createdByUs(client: pg.Client): Promise<ReadonlySet<string>> {
  return new Set((await appliedFiles(client, schemaSet)).flatMap(({ script }) => createdBy(script)));
}

/** Our tables and views in public, by name. */
export async function publicRelations(client: pg.Client, directory: string): Promise<string[]> {
  const views = await sqlFiles(directory, "views");
  return [...(await createdByUs(client)), ...views.flatMap(({ text }) => createdBy(text))];
}

async function createdByFiles(client: pg.Client, directory: string): Promise<string[]> {
  const numbered = await Promise.all(
    (await numberedNames(directory)).map((name) => readFile(join(directory, name), "utf8")),
  );
  // For views only checksums are recorded, so names of views are compared only until our views were applied for the
  // first time.
  const views = (await recordedFiles(client, viewSet)).size === 0 ? await sqlFiles(directory, "views") : [];
  return [...CONTRACT, ...numbered.flatMap(createdBy), ...views.flatMap(({ text }) => createdBy(text))];
}
