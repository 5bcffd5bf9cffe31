import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { migrationDifferences, orphans } from "../../../src/db/migrate/index.ts";
import { findOrphans, type CatalogObject } from "../../../src/db/migrate/orphans.ts";
import { createTestDatabase, isServer, type TestDatabase } from "../../support/database.ts";
import { onServer } from "../../support/sql.ts";
import { createFixture, files, type Fixture } from "./fixture.ts";

const fn = (name: string, ...args: string[]): CatalogObject => ({ kind: "function", schema: "brainops", name, args });
const trigger = (name: string, table: string): CatalogObject => ({ kind: "trigger", schema: "public", table, name });

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

  it("takes what a text creates, with its types under any of their names", () => {
    const created = [
      fn(
        "many",
        "uuid",
        "timestamp with time zone",
        "text[]",
        "numeric",
        "timestamp with time zone",
        "thing[]",
        "integer",
      ),
      fn("make", "regclass"),
      { kind: "view", schema: "brainops", name: "seen" },
      { kind: "view", schema: "brainops", name: "jobs" },
      trigger("a1_fill", "things"),
      trigger("c0_made", "things"),
      trigger("c0_made", "invoices"),
    ] as const;
    expect(findOrphans([text], created)).toEqual([]);
  });

  it("finds the rest: other signatures, other tables, names in comments", () => {
    expect(
      findOrphans(
        [text],
        [
          fn("make", "regclass", "integer"),
          fn("commented"),
          { kind: "view", schema: "brainops", name: "commented" },
          trigger("a1_fill", "invoices"),
          trigger("a2_fill", "things"),
        ],
      ),
    ).toEqual([
      "function brainops.commented()",
      "function brainops.make(regclass, integer)",
      "trigger a1_fill on public.invoices",
      "trigger a2_fill on public.things",
      "view brainops.commented",
    ]);
  });
});

describe("sql/", () => {
  let db: TestDatabase;
  beforeAll(async () => {
    db = await createTestDatabase();
  });
  afterAll(() => db.close());

  it("creates every function, view and trigger that the database holds", async () => {
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
