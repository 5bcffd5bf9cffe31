import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { migrationDifferences, orphans } from "../../../src/db/migrate/index.ts";
import { appliedDefinitionsIn } from "../../../src/db/migrate/definitions.ts";
import { findOrphans } from "../../../src/db/migrate/orphans.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../../support/database.ts";
import { onServer } from "../../support/sql.ts";
import { createFixture, files, type Fixture } from "./fixture.ts";

describe("findOrphans", () => {
  const text = `
    -- create function brainops.commented() …
    /* create function brainops.commented() */
    create or replace function brainops.many(
      p_id uuid, -- its comma, and ) bracket
      in p_at timestamptz default now(),
      p_list text[] = array['a, b', ')'],
      p_amount numeric(10, 2) default round(1, 2),
      timestamp with time zone,
      variadic p_rest public.thing[] default '{}',
      out status character varying,
      inout p_count int default 0
    ) language sql as $$ select 1 -- create view brainops.commented
    $$;
    create or replace view brainops.seen with (security_invoker = true) as select 1;
    create or replace trigger a1_fill before insert or update of email on public.things for each row execute function f();
    create function brainops.make(p_table regclass) returns void language plpgsql as $body$
    begin
      execute format('create or replace trigger c0_made after insert on %s execute function x()', p_table);
      execute 'create or replace view brainops.jobs as ' || 'don''t';
    end $body$;
  `;

  it("accepts what a file creates, with any spelling of its types", () => {
    expect(
      findOrphans(
        [text],
        [
          "function brainops.many(uuid, timestamp with time zone, text[], numeric, timestamp with time zone, thing[], integer)",
          "function brainops.make(regclass)",
          "view brainops.seen",
          "view brainops.jobs",
          "trigger a1_fill on public.things",
          "trigger c0_made on public.things",
          "trigger c0_made on public.invoices",
          "view public.somebody_elses",
        ],
      ),
    ).toEqual([]);
  });

  it("finds the rest: other signatures, other tables, names in comments", () => {
    const orphaned = [
      "function brainops.commented()",
      "function brainops.make(regclass, integer)",
      "trigger a1_fill on public.invoices",
      "trigger a2_fill on public.things",
      "view brainops.commented",
    ];
    expect(findOrphans([text], orphaned.toReversed())).toEqual(orphaned);
  });

  it("does not look for what functions create when they run", () => {
    expect(appliedDefinitionsIn(text)).toEqual([
      expect.stringMatching(/^function brainops.many\(/),
      "function brainops.make(regclass)",
      "view brainops.seen",
      "trigger a1_fill on public.things",
    ]);
  });
});

describe("sql/", () => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await createTestDatabase();
  });
  afterAll(() => db.close());

  it("creates every function, view and trigger of the database", async () => {
    expect(await onServer(db.url, (client) => orphans(client))).toEqual([]);
  });
});

describe.skipIf(!isServer)("what differs from sql/ (needs a server with several databases)", () => {
  let world: Fixture;
  beforeEach(async () => {
    world = await createFixture();
    await world.run();
  });
  afterEach(() => world.close());

  const differences = (): Promise<string[]> =>
    onServer(world.url, (client) => migrationDifferences(client, world.directory));

  it("is nothing after a migration", async () => {
    expect(await differences()).toEqual([]);
    expect(await onServer(world.url, (client) => orphans(client, world.directory))).toEqual([]);
  });

  it("is what was dropped by hand; the next migration restores it", async () => {
    await world.ask("drop view brainops.large");
    await world.ask("drop function brainops.bare_size(text)");
    await world.ask("drop trigger a1_fill_size on public.things");
    expect(await differences()).toEqual([
      "function brainops.bare_size(text) of functions/20-bare/bare.sql was dropped",
      "trigger a1_fill_size on public.things of tables/things.sql was dropped",
      "view brainops.large of views/20-large.sql was dropped",
    ]);
    expect(await world.run()).toEqual({ applied: ["functions (4 files)", "tables/things.sql", "views (2 files)"] });
    expect(await differences()).toEqual([]);
  });

  it("is each file that was edited, added or removed", async () => {
    for (const path of ["0001-things.sql", "functions/retired.sql", "views/20-large.sql", "after/0001-known.sql"]) {
      await world.write(path, `${files[path]}-- edited\n`);
    }
    await world.write("functions/10-things/more.sql", "select 1;\n");
    await world.write("after/0002-more.sql", "select 1;\n");
    await world.write(
      "concurrent/0001-index.sql",
      "create index concurrently if not exists i on public.things (size);\n",
    );
    await world.remove("tables/things.sql");
    expect(await differences()).toEqual([
      "0001-things.sql was edited after it was applied",
      "after/0001-known.sql was edited after it was applied",
      "after/0002-more.sql was not applied",
      "functions/10-things/more.sql was not applied",
      "functions/retired.sql differs from what was applied",
      "tables/things.sql is gone",
      "views/20-large.sql differs from what was applied",
      "concurrent/0001-index.sql was not applied",
    ]);
  });
});
