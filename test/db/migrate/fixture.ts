// An empty database, and a small sql/ of its own: one table, two functions that call one another, a trigger, views
// that select from one another, reference data that calls a function.
import { cp, mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import type pg from "pg";
import { inject } from "vitest";
import {
  migrate,
  migrationsDirectory,
  type MigrateOptions,
  type MigrateReport,
} from "../../../src/db/migrate/index.ts";
import { onServer } from "../../support/sql.ts";

export interface Fixture {
  readonly url: string;
  readonly directory: string;
  write(path: string, text: string): Promise<void>;
  remove(path: string): Promise<void>;
  run(options?: Partial<MigrateOptions>): Promise<MigrateReport>;
  /** One statement as superuser, on a separate connection. */
  ask<Row extends pg.QueryResultRow>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  close(): Promise<void>;
}

/** The files of the fixture: path -> text. */
export const files: Readonly<Record<string, string>> = {
  "0001-things.sql": "create table public.things (name text primary key, size int not null default 0);\n",
  "functions/10-things/size.sql":
    "create or replace function brainops.size_of(p_name text) returns int language sql stable as $$ select brainops.bare_size(p_name) $$;\n",
  // Later in path order than its caller.
  "functions/20-bare/bare.sql":
    "create or replace function brainops.bare_size(p_name text) returns int language sql stable as $$ select length(p_name) $$;\n",
  "functions/20-bare/fill.sql":
    "create or replace function brainops.fill_size() returns trigger language plpgsql as $$ begin new.size := brainops.size_of(new.name); return new; end $$;\n",
  "functions/retired.sql": "drop function if exists brainops.old_size(text);\n",
  "tables/things.sql":
    "create or replace trigger a1_fill_size before insert on public.things for each row execute function brainops.fill_size();\n",
  "views/10-sizes.sql":
    "drop view if exists brainops.sizes cascade;\ncreate view brainops.sizes as select name, size from public.things;\n",
  "views/20-large.sql":
    "drop view if exists brainops.large;\ncreate view brainops.large as select name from brainops.sizes where size > 3;\n",
  "after/0001-known.sql": "insert into public.things (name) values ('hammer');\n",
};

/** Needs a server with several databases. Close it after the test. */
export async function createFixture(): Promise<Fixture> {
  const provided = inject("postgres");
  if (provided.kind !== "server") throw new Error("needs a server with several databases");
  const directory = await mkdtemp(join(tmpdir(), "brainops-sql-"));
  const name = `brainops_migrate_${process.pid}_${Math.random().toString(36).slice(2, 8)}`;
  await onServer(provided.url, (client) => client.query(`create database ${name}`));
  const url = new URL(provided.url);
  url.pathname = `/${name}`;
  const write = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(directory, path)), { recursive: true });
    await writeFile(join(directory, path), text);
  };
  await cp(join(migrationsDirectory, "_bootstrap.sql"), join(directory, "_bootstrap.sql"));
  for (const [path, text] of Object.entries(files)) await write(path, text);
  return {
    url: url.href,
    directory,
    write,
    remove: (path) => rm(join(directory, path)),
    run: (options = {}) => migrate({ connectionString: url.href, directory, ...options }),
    ask: <Row extends pg.QueryResultRow>(text: string, values: readonly unknown[] = []) =>
      onServer(url.href, async (client) => (await client.query<Row>(text, [...values])).rows),
    close: async () => {
      await onServer(provided.url, (client) => client.query(`drop database if exists ${name} with (force)`));
      await rm(directory, { recursive: true, force: true });
    },
  };
}
