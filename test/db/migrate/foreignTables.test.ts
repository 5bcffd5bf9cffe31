import { cp } from "node:fs/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { ForeignTablesError, migrationsDirectory } from "../../../src/db/migrate/index.ts";
import { isServer } from "../../support/database.ts";
import { createFixture, type Fixture } from "./fixture.ts";

let world: Fixture;
beforeEach(async () => {
  if (isServer) world = await createFixture();
});
afterEach(() => world?.close());

const refusal = (): Promise<unknown> => world.run().catch((error: unknown) => error);

describe.skipIf(!isServer)(
  "a database with tables of another application (needs a server with several databases)",
  () => {
    it("is left unchanged; all tables with names of ours are listed", async () => {
      await cp(migrationsDirectory, world.directory, { recursive: true });
      await world.ask(`
      create table public.ai_email_queue (id int);
      create table public.revenue_leads (id int);
      create table public.ai_agents (id int);
      create table public.unified_ai_memory (id int);
      create view public.revenue_summary as select 1 as n;
      create table public.customers (id int);
      create schema other;
      create table other.tenants (id int)`);
      const error = await refusal();
      expect(error).toBeInstanceOf(ForeignTablesError);
      expect(String(error).match(/^ {2}.*$/gm)).toEqual(
        ["ai_agents", "ai_email_queue", "revenue_leads", "revenue_summary", "unified_ai_memory"].map(
          (name) => `  public.${name}`,
        ),
      );
      expect(String(error)).toMatch(/a database of its own, or rename these tables/);
      expect(await world.ask("select from pg_namespace where nspname in ('brainops', 'graphile_worker')")).toEqual([]);
    });

    it("is refused for a table of a new file, and for a view before our views were applied", async () => {
      await world.ask("create view public.summary as select 1 as n");
      await world.write(
        "views/30-summary.sql",
        "drop view if exists public.summary;\ncreate view public.summary as select 2 as n;\n",
      );
      expect(await refusal()).toBeInstanceOf(ForeignTablesError);
      await world.ask("drop view public.summary");
      await world.run();
      await world.ask("create table public.more (id int)");
      await world.write(
        "0002-more.sql",
        "-- create table public.things\ncreate table if not exists public.more (id uuid primary key);\n",
      );
      expect(String(await refusal())).toContain(":\n  public.more\nNothing was changed");
    });

    it("is not assumed if we created the tables, even in a later release", async () => {
      await world.write("0002-agents.sql", "create table public.ai_agents (id uuid primary key);\n");
      await world.run();
      expect(await world.run()).toEqual({ applied: [] });
      await world.remove("0002-agents.sql");
      await expect(world.run({ release: "0.0.1" })).rejects.toThrow(/Run brainops migrate from release/);
    });
  },
);
