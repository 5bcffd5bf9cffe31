// The tables that record what was applied, beside those of @databases/pg-migrations. They exist before the first
// numbered file, so no file of sql/ can create them.
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import type { Migration } from "./types.ts";

const tables = `
create table if not exists brainops.concurrent_migrations (
  name text primary key,
  applied_at timestamptz not null default now()
);

comment on table brainops.concurrent_migrations is 'Files of sql/concurrent that brainops migrate has run.';

create table if not exists brainops.migrations_repeatable (
  path text primary key,
  sha256 text not null,
  release text not null,
  applied_at timestamptz not null
);

comment on table brainops.migrations_repeatable is
  'Files of sql/functions, sql/tables and sql/views as brainops migrate applied them last; a row is written in the transaction that applies its file.';
`;

/** Roles and schema (sql/_bootstrap.sql), then the bookkeeping tables; safe to run again. */
export async function bootstrap({ client, directory }: Migration): Promise<void> {
  await client.query(await readFile(join(directory, "_bootstrap.sql"), "utf8"));
  await client.query(tables);
}
