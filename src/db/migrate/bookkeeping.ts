// The tables that record what was applied, in addition to those of @databases/pg-migrations. They exist before the
// first numbered file, so no file of sql/ can create them.
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

create table if not exists brainops.release (
  is_only boolean primary key default true check (is_only),
  release text,
  oldest_program text not null default '0.0.0',
  migrated_at timestamptz
);

comment on table brainops.release is
  'One row: which release of BrainOps migrated this database, and the oldest program that may still use it.';

comment on column brainops.release.release is 'Null until a migration has succeeded.';

comment on column brainops.release.oldest_program is
  'Programs of a lower release refuse to start. A contracting migration raises it.';

grant select on brainops.release to brainops_worker, brainops_service, brainops_admin, brainops_system;

insert into brainops.release default values on conflict do nothing;
`;

/** Roles and schema (sql/_bootstrap.sql), then the bookkeeping tables; safe to run again. */
export async function bootstrap({ client, directory }: Migration): Promise<void> {
  await client.query(await readFile(join(directory, "_bootstrap.sql"), "utf8"));
  await client.query(tables);
}
